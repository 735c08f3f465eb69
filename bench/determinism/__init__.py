"""Whether training repeats bit for bit, and what it costs: ``python -m bench.determinism -o FILE``."""
