"""Read run directories and show them. No torch.

It has the analysis, comparison, report, terminal view, checks and metrics.
"""
