"""Peak memory of our models, and the largest batch that fits: ``python -m bench.memory --tokens DIR -o FILE``.

Every probe is a process of its own, so that none inherits another's fragments. For each model and kernels (fused;
plain with and without compile): the peaks at the batches asked for, then the largest batch by bisection.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.h200 import MODELS, finish, start

WAYS = {"fused": ("ours", True), "plain, compiled": ("ours-plain", True), "plain": ("ours-plain", False)}
LIMIT = 240.0
"""Seconds of one probe."""


def probe(model: str, way: str, batch: int, tokens: Path) -> dict[str, Any]:
    """One step of ``batch`` sequences: its peak, or the error."""
    entrant, compiled = WAYS[way]
    job = {
        "model": model, "entrant": entrant, "compile": compiled, "batch": batch, "accumulation": 1, "block": 2048,
        "steps": 1, "seconds": 0.0, "tokens": str(tokens / f"{model.split('_')[0]}.bin"),
    }  # fmt: skip
    return finish(start(job), job, time.monotonic() + LIMIT)


def largest(fits: Callable[[int], bool], low: int, high: int) -> int:
    """The largest batch in [low, high] that fits, if ``low`` does and each smaller than one that fits does as well."""
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def examine(model: str, way: str, options: argparse.Namespace) -> dict[str, Any]:
    peaks = {}
    for batch in options.batches:
        result = probe(model, way, batch, options.tokens)
        peaks[batch] = (
            round(result["peak_gib"][str(batch)], 2) if "peak_gib" in result else result["error"][:200]
        )
    found = {"model": model, "kernels": way, "peak_gib": peaks}
    if options.bisect:
        found["largest_batch"] = largest(
            lambda batch: "error" not in probe(model, way, batch, options.tokens), 1, options.bisect
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--batches", type=int, nargs="*", default=[8, 16])
    parser.add_argument("--bisect", type=int, default=48, help="largest batch to try; 0: no bisection")
    options = parser.parse_args()
    results = []
    for model in options.models:
        for way in options.ways:
            results.append(examine(model, way, options))
            print(results[-1], flush=True)
            now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
            document = {"date": now, "command": " ".join(sys.argv), "results": results}
            options.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
