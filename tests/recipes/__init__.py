"""CONTRIBUTING's recipes, each followed to the letter in a copy of the checkout."""
