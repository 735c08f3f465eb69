"""Where text comes from, file by file and document by document."""
