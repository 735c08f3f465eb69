"""From a user's choices to one immutable job spec."""
