"""Other projects' formats: folders of transformers."""
