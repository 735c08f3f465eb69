"""Run directories: their records, logs, figures and pipelines."""
