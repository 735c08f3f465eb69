"""Samples as a pure function of data, seed and number."""
