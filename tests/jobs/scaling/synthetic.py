"""Points of a known law with noise, as a user's runs would be."""

from __future__ import annotations

import numpy as np

from jobctl.jobs.scaling.fitting import Point

TRUTH = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}


def points(count: int, noise: float, seed: int) -> list[Point]:
    """Return ``count`` points over three decades of sizes and budgets, losses off by ``noise`` (relative)."""
    generator = np.random.default_rng(seed)
    sizes = 10 ** generator.uniform(7.5, 10, count)
    budgets = 10 ** generator.uniform(18, 21.5, count)
    lengths = np.clip(budgets / 6 / sizes, 2e8, 2e12)
    exact = TRUTH["E"] + TRUTH["A"] / sizes ** TRUTH["alpha"] + TRUTH["B"] / lengths ** TRUTH["beta"]
    losses = exact * np.exp(noise * generator.standard_normal(count))
    return [
        Point(parameters=float(n), tokens=float(d), loss=float(loss))
        for n, d, loss in zip(sizes, lengths, losses, strict=True)
    ]
