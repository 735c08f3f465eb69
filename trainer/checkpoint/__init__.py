"""Checkpoints: their contents, their writing and reading, and their names in a run's folder."""
