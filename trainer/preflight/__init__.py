"""What a training would find on each of its nodes, before it begins: ``python -m jobctl.trainer.preflight``."""
