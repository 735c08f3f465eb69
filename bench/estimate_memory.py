"""Estimated memory and time against measured: ``python -m bench.estimate_memory -o FILE``.

Every cell is a process of its own: a model in one way at one or two batches, two micro-steps a step, random tokens.
First a probe of the card, then shapes that the catalogue does not have, then the largest micro-batch (also on a card
made as small as an H100's 80 GB), then the catalogue's models. What was measured is kept when time runs out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from bench.document import save
from bench.fresh import FreshProcesses
from bench.h200 import MODELS
from jobctl.jobs.catalog.loader import load_hardware, load_model
from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.jobs.core.errors import run_command
from jobctl.jobs.estimate.batch import largest_batch
from jobctl.jobs.estimate.memory import CONTEXT, memory
from jobctl.jobs.estimate.situation import Situation, usable_gib
from jobctl.jobs.estimate.weights import GIB

WAYS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours-fp8": {"use_fp8": True},
    "ours-plain": {"kernels": "plain"},
    "ours-eager": {"kernels": "plain", "compile": False},
}
"""Entrants of ``bench.measured``, and the settings that they stand for."""
LLAMA_3B = {
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
QWEN_600M = {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "tie_word_embeddings": True,
    "max_position_embeddings": 4096,
}
LONG = {"max_position_embeddings": 4096}
UNSEEN: tuple[tuple[str, str, dict[str, Any], int, dict[str, list[int]]], ...] = (
    ("llama3 3B", "llama3_1.5b", LLAMA_3B, 2048, {"ours": [4, 10], "ours-plain": [6], "ours-eager": [4]}),
    ("qwen3 0.6B", "qwen3_1.8b", QWEN_600M, 2048, {"ours": [8, 24], "ours-plain": [12], "ours-eager": [8]}),
    ("llama3 4,096", "llama3_1.5b", LONG, 4096, {"ours": [4, 10], "ours-plain": [6], "ours-fp8": [8]}),
)
"""Shapes that nobody looked at while the estimate was made: name, model to change, change, block, batches by way."""
SMALL_CARD = "h100"


def situation(job: dict[str, Any], batch: int) -> Situation:
    """The training that a job measures, as the estimate is told it."""
    entry = load_model(job["model"])
    settings = WAYS[job["entrant"]] | {
        "batch_size": batch,
        "block_size": job["block"],
        "gradient_accumulation_steps": job["accumulation"],
    }
    return Situation(
        model=msgspec.structs.replace(entry.config, **job.get("shape", {})),
        train=msgspec.structs.replace(msgspec.convert(entry.train, TrainConfig), **settings),
        facts=load_hardware("h200").facts,
        ranks=1,
        ranks_per_node=1,
        gpu=True,
    )


def cell(name: str, model: str, entrant: str, batches: list[int], block: int, **more: Any) -> dict[str, Any]:
    """One process's job."""
    return {
        "name": name,
        "model": model,
        "entrant": entrant,
        "batch": batches[-1],
        "also": batches[:-1],
        "block": block,
        "accumulation": 2,
        "steps": 4,
        "seconds": 6.0,
        "data": "",
        **more,
    }


def largest_cells(job: dict[str, Any], available: float) -> Iterator[dict[str, Any]]:
    """One sequence more than the estimate says fits, and what it says."""
    size = largest_batch(situation(job, 1), available)
    for batch in (size + 1, size):
        yield job | {"batch": batch, "also": [], "steps": 0, "expected_largest_batch": size}


def cells() -> Iterator[dict[str, Any]]:
    """All jobs, what matters most first."""
    for name, model, shape, block, ways in UNSEEN:
        for entrant, batches in ways.items():
            yield cell(name, model, entrant, batches, block, shape=shape)

    for model in MODELS:
        yield from largest_cells(cell(model, model, "ours", [1], 2048), usable_gib(load_hardware("h200")))

    small = usable_gib(load_hardware(SMALL_CARD))
    for model in MODELS[:2]:
        job = cell(f"{model} in {small:.1f} GiB", model, "ours", [1], 2048, memory_gib=small - CONTEXT)
        yield from largest_cells(job, small)

    for model in MODELS:
        for entrant in WAYS:
            yield cell(model, model, entrant, [4, 12] if entrant in ("ours", "ours-fp8") else [6], 2048)


def line(result: dict[str, Any]) -> str:
    """A cell for people."""
    head = f"{result['name']:24s} {result['entrant']:10s}"
    if "error" in result:
        estimated = result["estimated_gib"][str(result["batch"])]
        return f"{head} {result['batch']:3d}  estimated {estimated:7.2f}  {result['error'][:70]!r}"

    lines = []
    for batch, peak in result["peak_gib"].items():
        estimated = result["estimated_gib"][batch]
        lines.append(
            f"{head} {int(batch):3d}  estimated {estimated:7.2f}  measured {peak:7.2f} GiB "
            f"({estimated / peak - 1:+.2%}), reserved {result['reserved_gib'][batch]:7.2f}"
        )

    if "step_ms" in result:
        lines[-1] += f", step of {result['accumulation']} × {result['batch']}: {result['step_ms']:.1f} ms"
    return "\n".join(lines)


def run_probe() -> dict[str, Any]:
    """The card's own figures."""
    command = [sys.executable, "-m", "jobctl.trainer.probe", "--device", "cuda"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    result: dict[str, Any] = (
        json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr[-400:]}
    )
    return result


def main() -> int:
    """Measure until all is done or the minutes are over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=7.8, help="stop after so long")
    options = parser.parse_args()

    deadline = time.monotonic() + 60 * options.minutes
    # As the jobs of jobctl have it.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    figures = run_probe()
    print(json.dumps(figures), flush=True)
    results: list[dict[str, Any]] = []
    save(options.output, probe=figures, results=results)

    with FreshProcesses() as processes:
        for job in cells():
            if time.monotonic() > deadline - 8:
                print("no time for more", flush=True)
                break

            result = processes.run(job, min(deadline, time.monotonic() + 60))
            sizes = [*job["also"], job["batch"]]
            result["estimated_gib"] = {
                str(batch): memory(situation(job, batch)).total / GIB for batch in sizes
            }
            results.append(result)
            print(line(result), flush=True)
            save(options.output, probe=figures, results=results)

    return 0


if __name__ == "__main__":
    run_command(main)
