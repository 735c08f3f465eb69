"""Run directories as the trainer and the job's script leave them, without a training."""

from __future__ import annotations

import datetime
import json
import math
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from jobctl.jobs.catalog.loader import load_model
from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.jobs.core import layout

BEGAN = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
GPU = "NVIDIA H200"
TOKENS = 1024


def curve(step: int) -> float:
    """A loss that falls as a model's does."""
    return 3.0 + 8.0 / math.sqrt(step + 1)


def start_line(run: str = "r", **changes: Any) -> dict[str, Any]:
    """The first line of an attempt; ``changes`` go into its config or, where they are known there, its facts."""
    model = msgspec.to_builtins(load_model("qwen3_1.8b").config)
    train = msgspec.to_builtins(
        TrainConfig(max_iters=200, warmup_iters=20, block_size=128, batch_size=8, compile=True)
    )
    facts = {
        "model": "qwen3_1.8b",
        "device": GPU,
        "world_size": 1,
        "torch": "2.13.0",
        "dtype": "bfloat16",
        "attention_backend": "cudnn",
        "kernels": "fused",
        "sharding": "ddp",
        "compile": True,
        "tokens_per_iter": TOKENS,
        "peak_flops": 989e12,
        "dataset": ["/root/datasets/slimpajama_6b-qwen3"],
        "fingerprint": "f" * 64,
        "resumed_from_step": None,
        "parameters": 1_830_395_904,
        "fused": True,
        "attention_passed_over": "",
        "epochs_planned": {"slimpajama_6b-qwen3": 0.01},
    }
    config = model | train
    config |= {key: value for key, value in changes.items() if key in config or key not in facts}
    facts |= {key: value for key, value in changes.items() if key in facts}
    return {"kind": "start", "run_name": run, "config": config, "startup_info": facts}


def step_line(step: int, loss: float | str, **changes: Any) -> dict[str, Any]:
    line = {"kind": "iteration", "iter": step, "loss": loss, "lr": 3e-4, "grad_norm": 1.0}
    return line | {"samples": 8 * step, "skipped": False} | changes


def timing_line(step: int, steps: int = 10, **changes: Any) -> dict[str, Any]:
    """An interval of a healthy run on one H200."""
    facts: dict[str, Any] = {
        "dt_ms": 100.0,
        "data_wait_ms": 0.2,
        "compute_ms": 95.0,
        "optimizer_ms": 4.0,
        "tokens_per_sec": 10 * TOKENS,
        "mfu": 0.6,
        "memory_allocated_gb": 60.0,
        "memory_peak_gb": 90.0,
    }
    return {"kind": "timing", "iter": step, "steps": steps, **facts, **changes}


def training_lines(
    steps: Iterable[int],
    *,
    loss: Callable[[int], float | str] = curve,
    every: int = 10,
    timing: Callable[[int], dict[str, Any]] = lambda step: {},
    **changes: Any,
) -> list[dict[str, Any]]:
    """Lines of ``steps``, with the timing of each ``every`` of them."""
    lines: list[dict[str, Any]] = []
    unlogged = 0
    numbers = list(steps)
    for step in numbers:
        lines.append(step_line(step, loss(step), **changes))
        unlogged += 1
        if step % every == 0 or step == numbers[-1]:
            lines.append(timing_line(step, unlogged, **timing(step)))
            unlogged = 0

    return lines


def write_log(
    run: Path, lines: Iterable[dict[str, Any]], *, minutes: float = 0.0, kind: str = "run", torn: str = ""
) -> Path:
    """Write one attempt's log, begun ``minutes`` after the first; ``torn`` is what a kill left of a last line."""
    stamp = (BEGAN + datetime.timedelta(minutes=minutes)).strftime("%Y%m%d-%H%M%S-%f")[:-3]
    path = layout.metrics_dir(run) / f"{kind}_{stamp}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    # As compact as the trainer writes them: some readers look at the beginning of a line alone.
    compact = [json.dumps(line, separators=(",", ":")) + "\n" for line in lines]
    path.write_text("".join(compact) + torn)
    return path


def write_run(
    run: Path,
    *,
    steps: int = 200,
    seed: int = 0,
    noise: float = 0.01,
    scale: float = 1.0,
    settings: dict[str, Any] | None = None,
    timing: Callable[[int], dict[str, Any]] = lambda step: {},
    status: str = "finished",
    scored: dict[str, Any] | None = None,
) -> Path:
    """Write a run of one attempt whose loss has ``noise`` of its own (relative, normal, by ``seed``).

    ``scored`` goes into the line of its evaluation.
    """
    generator = random.Random(seed)
    losses = {step: scale * curve(step) * (1 + generator.gauss(0, noise)) for step in range(1, steps + 1)}
    chosen = {"max_iters": steps, "seed": seed, **(settings or {})}
    lines = [start_line(run.name, **chosen)]
    lines += training_lines(losses, loss=losses.__getitem__, timing=timing)
    evaluated = scale * curve(steps) * (1 + generator.gauss(0, noise / 10))
    score = {"kind": "eval", "iter": steps, "set": "val-x", "val_loss": evaluated, "perplexity": 1.0}
    lines.append(score | (scored or {}))
    if status:
        lines.append({"kind": "summary", "iter": steps, "status": status, "tokens": steps * TOKENS})

    write_log(run, lines)
    return run


def write_attempt(
    run: Path, number: int = 1, *, begin: float = 0.0, end: float | None = None, **facts: Any
) -> None:
    """Write the record of an attempt; ``begin`` and ``end`` are minutes after the first log."""
    record: dict[str, Any] = {
        "attempt": number,
        "job_id": str(100 + number),
        "target": "slurm",
        "host": "n1",
        "nodes": "n1",
        "pid": 1,
        "start": (BEGAN + datetime.timedelta(minutes=begin)).isoformat(timespec="seconds"),
    }
    if end is not None:
        record["end"] = (BEGAN + datetime.timedelta(minutes=end)).isoformat(timespec="seconds")
        record["exit_code"] = 0

    path = layout.attempt_file(run, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record | facts))
