"""The training loop and what one optimiser step is made of."""
