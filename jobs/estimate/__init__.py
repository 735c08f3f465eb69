"""Estimate the memory, time, money and disk of a training before it is submitted, by arithmetic alone."""
