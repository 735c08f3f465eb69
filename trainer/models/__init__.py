"""The model families, one folder each. None knows of parallelism, compilation or autocast."""
