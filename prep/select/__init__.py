"""Choose the documents that are kept, and their split."""
