"""Checkpoints: what they hold, how they are written, published and read."""
