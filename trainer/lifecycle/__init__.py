"""Stopping, signs of life, and the end of a rank that hangs."""
