"""Read run directories and show them: analysis, comparison, report, terminal view, checks, metrics. No torch."""
