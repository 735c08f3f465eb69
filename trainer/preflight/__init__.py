"""Check each node before a training begins: ``python -m jobctl.trainer.preflight``."""
