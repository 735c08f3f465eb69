"""How often a fit's intervals hold the truth: ``python -m bench.scaling_coverage -o FILE``.

Synthetic sets of a known law; for each number of the law the share of sets whose interval holds it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from bench.document import save
from jobctl.jobs.core.errors import run_command
from jobctl.jobs.scaling.fitting import fit
from tests.jobs.scaling.synthetic import TRUTH, points


def coverage(sets: int, count: int, noise: float, resamples: int) -> dict[str, float]:
    """Share of ``sets`` whose nominal 90% interval holds the truth, by the number's name."""
    held = dict.fromkeys(TRUTH, 0)
    for seed in range(sets):
        made = fit(points(count, noise, seed), resamples=resamples, seed=seed)
        for name, value in TRUTH.items():
            low, high = made.intervals[name]
            held[name] += low <= value <= high

    return {name: count / sets for name, count in held.items()}


def main() -> int:
    """Print and keep the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--sets", type=int, default=500)
    parser.add_argument("--points", type=int, default=60)
    parser.add_argument("--noise", type=float, default=0.005)
    parser.add_argument("--resamples", type=int, default=120)
    options = parser.parse_args()

    began = time.perf_counter()
    shares = coverage(options.sets, options.points, options.noise, options.resamples)
    seconds = time.perf_counter() - began
    print({name: f"{share:.1%}" for name, share in shares.items()}, f"{seconds:.0f} s")
    save(options.output, coverage=shares, seconds=round(seconds, 1), sets=options.sets)
    return 0


if __name__ == "__main__":
    run_command(main)
