"""``jobctl sweep``: the trials, their order, their results, and the page that shows them. Without torch."""
