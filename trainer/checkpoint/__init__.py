"""Checkpoints: what they hold, how they are written and read, and their names in a run's folder."""
