"""Turn a user's choices into one immutable job spec."""
