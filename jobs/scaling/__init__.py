"""Scaling laws: size and tokens for a budget, the search for a shape, and fits to a user's own runs."""
