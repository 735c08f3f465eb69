"""The files of the image variants."""
