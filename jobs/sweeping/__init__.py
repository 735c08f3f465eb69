"""``jobctl sweep``: what is tried, in which order, what came of it, and how that is shown. Without torch."""
