"""Read the sources of text, file by file and document by document."""
