"""Peak memory of our models, and the largest batch that fits: ``python -m bench.memory --data DIR -o FILE``.

For each model and kernels (fused; plain with and without compile): the peaks at the batches asked for, then the
largest batch by bisection around what they let expect, every probe a process of its own: none
inherits another's fragments.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.document import save
from bench.fresh import FreshProcesses
from bench.h200 import MODELS
from jobctl.jobs.core.errors import run_command

WAYS = {"fused": "ours", "plain, compiled": "ours-plain", "plain": "ours-eager"}
LIMIT = 240.0
"""Seconds of one probe."""


class Probes:
    """Steps of a model done in one of the ways, in fresh processes."""

    def __init__(self, processes: FreshProcesses, model: str, way: str, data: Path) -> None:
        self.processes = processes
        self.model = model
        self.way = way
        self.data = data / f"sotu-{model.split('_')[0]}"

    def run(self, batches: Sequence[int]) -> dict[str, Any]:
        """A step of two micro-steps at each batch, all in one process: the peaks, or the error."""
        job = {
            "model": self.model, "entrant": WAYS[self.way], "batch": batches[-1],
            "also": list(batches[:-1]), "block": 2048, "steps": 0, "data": str(self.data),
        }  # fmt: skip
        return self.processes.run(job, time.monotonic() + LIMIT)

    def fits(self, batch: int) -> bool:
        return "error" not in self.run([batch])


def expected(peaks: dict[int, float], memory: float) -> int:
    """The batch at which the straight line through the peaks reaches ``memory``; both in GiB."""
    (low, at_low), (high, at_high) = sorted(peaks.items())[:: len(peaks) - 1]
    return int(low + (memory - at_low) * (high - low) / (at_high - at_low))


def largest(fits: Callable[[int], bool], guess: int, step: int) -> int:
    """The largest batch that fits, 0 if none does; one smaller than one that fits must fit as well.

    Steps of ``step`` away from ``guess``, doubled each time, find one that fits and one that does not; bisection
    does the rest.
    """
    low = 0
    high = max(guess, 1)
    while fits(high):
        low = high
        high = high + step
        step = 2 * step
    while high - low > 1 and low == 0 and step < high:
        if fits(high - step):
            low = high - step
        else:
            high = high - step
            step = 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def examine(probes: Probes, batches: Sequence[int], around: int) -> dict[str, Any]:
    """Peaks, and the largest batch looked for in steps of ``around`` from the expected one (0: not at all).

    Where the largest of the batches does not fit, the peaks are those of batches half as large.
    """
    found: dict[str, Any] = {"model": probes.model, "kernels": probes.way}
    result = probes.run(sorted(batches))
    while "OutOfMemory" in result.get("error", "") and min(batches) > 1:
        batches = [batch // 2 for batch in batches]
        result = probes.run(sorted(batches))
    if "error" in result:
        return found | {"error": result["error"][:200]}
    peaks = {int(batch): round(peak, 2) for batch, peak in result["peak_gib"].items()}
    found |= {"peak_gib": peaks, "first_step_s": round(result["first_step_s"], 1), "note": result["note"]}
    if around:
        guess = expected(peaks, result["gpu_gib"])
        found |= {"expected_largest_batch": guess, "largest_batch": largest(probes.fits, guess, around)}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--batches", type=int, nargs="*", default=[8, 16])
    parser.add_argument("--bisect", nargs="*", choices=list(WAYS), default=["fused"], help="ways to bisect")
    parser.add_argument(
        "--around", type=int, default=2, help="first step away from the expected batch; 0: none is looked for"
    )
    options = parser.parse_args()
    results = []
    with FreshProcesses() as processes:
        for model in options.models:
            for way in options.ways:
                probes = Probes(processes, model, way, options.data)
                results.append(
                    examine(probes, options.batches, options.around if way in options.bisect else 0)
                )
                print(results[-1], flush=True)
                save(options.output, results=results)
    return 0


if __name__ == "__main__":
    run_command(main)
