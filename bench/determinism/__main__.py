"""Whether training repeats bit for bit, and what it costs: ``python -m bench.determinism -o FILE``.

Needs an NVIDIA GPU of 80 GB, and the package ``nvidia-cudnn-frontend`` for cuDNN's repeatable attention. Prints tables,
writes JSON. ``--parts`` takes some of: operations, models, processes, costs.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from bench.determinism import costs, models, processes
from bench.determinism.attentions import WAYS
from bench.determinism.bits import Disturbance, repeat
from bench.determinism.operations import Operations
from bench.determinism.subject import configuration
from bench.document import save
from bench.h200 import catalogue_batch
from jobctl.jobs.core.errors import run_command
from jobctl.trainer.models.cudnn_attention import PACKAGE
from jobctl.trainer.training.repeatable import CUBLAS_WORKSPACE

PARTS = ("operations", "models", "processes", "costs")
MODELS = ("qwen3_1.8b", "gpt2_1.36b")
MAIN_WAYS = ["cudnn", "cudnn, repeatable", "flash", "flash, repeatable"]
SETTINGS: tuple[dict[str, Any], ...] = (
    {"use_fp8": True}, {"use_cuda_graphs": True}, {"document_masking": True}, {"kernels": "plain", "compile": False},
    {"kernels": "plain"}, {"attention_backend": "sdpa", "deterministic": "on"},
)  # fmt: skip
SECONDS = 120.0
"""A pair of processes may take so long."""
TIMED_WAYS = [*MAIN_WAYS, "cudnn forward, flash backward, repeatable"]


def operations(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    device = torch.device("cuda", 0)
    for model in options.models:
        for batch in options.batches:
            torch.manual_seed(0)
            for name, run in Operations(configuration(model)[0], batch, device).all():
                row: dict[str, Any] = {"model": model, "batch": batch, "operation": name}
                try:
                    row["differ"] = repeat(run, options.repeats, Disturbance(device))
                except Exception as error:  # a kernel that cannot run says so in many types
                    row["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                yield row
            gc.collect()
            torch.cuda.empty_cache()


def whole_models(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for model in options.models:
        for kernels in ("fused", "plain"):
            for batch, layers in ((2, 0), (8, 0), (2, 1)):
                ways = list(WAYS) if batch == 2 and kernels == "fused" else MAIN_WAYS
                yield from models.trials(model, ways, kernels, batch, layers, 5)


def two_processes(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Whole models one after another; then small ones, two pairs at a time, for the other settings."""
    for model in options.models:
        for deterministic in ("off", "auto"):
            train = {"deterministic": deterministic}
            yield processes.compare({"model": model, "batch": 8, "train": train}, SECONDS)
    small = [{"model": options.models[0], "batch": 4, "layers": 3, "train": train} for train in SETTINGS]
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(lambda job: processes.compare(job, SECONDS), small)


def step_costs(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Whole models at the batch of the catalogue; then the settings whose attention or compilation differs."""
    for model in options.models:
        yield costs.milliseconds(model, TIMED_WAYS, catalogue_batch(model)[0], options.rounds)
        for changes in ({"document_masking": True}, {"kernels": "plain"}) if model == MODELS[0] else ():
            yield costs.milliseconds(model, MAIN_WAYS[:2], 8, options.rounds, **changes)


def frontend() -> str:
    """The version of cuDNN's Python interface."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return "not installed"


def line(part: str, row: dict[str, Any]) -> str:
    """A row of the part's table."""
    if "error" in row:
        return f"{part}: {row}"
    if part == "operations":
        verdict = ", ".join(f"{name} in {count:,}" for name, count in row["differ"].items()) or "same bits"
        return f"{row['model']:11} {row['batch']:2} {row['operation']:52} {verdict}"
    if part == "models":
        head = f"{row['model']:11} {row['kernels']:5} {row['batch']:2} x {row['layers']:2} {row['way']:42}"
        return f"{head} {row['differ']:3} of {row['parameters']} differ {row['first'] or ''}"
    if part == "processes":
        return str(
            {name: value for name, value in row.items() if name != "seen"}
            | {"losses": row["seen"][0]["losses"]}
        )
    ways = "".join(
        f"\n    {way:42} {t['ms']:9.2f} ms  {t['ratio']:.4f}  {t['peak_gib']:6.1f} GiB"
        for way, t in row["ways"].items()
    )
    return f"{row['model']} batch {row['batch']} {row['changes'] or ''}, {row['note']}{ways}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=[2, 8, 16])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("no NVIDIA GPU is to be seen here")
    os.environ.setdefault(*CUBLAS_WORKSPACE)
    work = {"operations": operations, "models": whole_models, "processes": two_processes, "costs": step_costs}
    about = {
        "torch": torch.__version__, "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "frontend": frontend(), "device": torch.cuda.get_device_name()
    }  # fmt: skip
    results: dict[str, list[dict[str, Any]]] = {}
    for part in options.parts:
        began = time.perf_counter()
        for row in work[part](options):
            results.setdefault(part, []).append(row)
            print(line(part, row), flush=True)
            save(options.output, **about, results=results)
        print(f"({part}: {time.perf_counter() - began:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    run_command(main)
