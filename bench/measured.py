"""One entrant in one process: ``python -m bench.measured`` prints what it measured as JSON.

It imports everything, then waits for its job, a line of JSON on standard input, before it touches the GPU, so that the
next entrant can start up while the last one is being timed.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()


def random_batches(vocabulary: int, batch: int, block: int) -> Iterator[Any]:
    """Endless int64 batches ``[batch, block + 1]`` of ids drawn alike, in pinned memory."""
    import torch

    generator = torch.Generator().manual_seed(0)
    while True:
        yield torch.randint(vocabulary, (batch, block + 1), generator=generator).pin_memory()


def batches(path: Path, batch: int, block: int) -> Iterator[Any]:
    """Endless int64 batches ``[batch, block + 1]`` in pinned memory: a data set in a fixed shuffled order."""
    import numpy as np
    import torch

    from jobctl.prep.shards.format import read_meta

    ids = np.memmap(path / "train.bin", dtype=read_meta(path).dtype, mode="r")
    count = (len(ids) - 1) // block
    order = np.random.default_rng(0).permutation(count)
    at = 0
    while True:
        rows = [ids[i * block : (i + 1) * block + 1] for i in order[np.arange(at, at + batch) % count]]
        at += batch
        yield torch.from_numpy(np.stack(rows).astype(np.int64)).pin_memory()


def build(job: dict[str, Any], device: Any) -> Any:
    """The entrant that the job names, with its batch: ours, ours-fp8, or a peer, ``-bf16`` with bfloat16 weights.

    ours-plain and ours-eager are the trainer without the fused kernels, with compiled blocks and without.
    ``shape``, where the job has one, changes fields of the model's architecture.
    """
    import msgspec

    from bench import entrants
    from jobctl.jobs.catalog.loader import load_model
    from jobctl.jobs.catalog.schema import TrainConfig

    entry = load_model(job["model"])
    config = msgspec.structs.replace(entry.config, **job.get("shape", {}))
    name, _, variant = job["entrant"].partition("-")
    if name == "ours":
        train = msgspec.convert(entry.train, TrainConfig)
        kernels = "plain" if variant in ("plain", "eager") else "auto"
        train = msgspec.structs.replace(
            train,
            batch_size=job["batch"],
            use_fp8=variant == "fp8",
            kernels=kernels,
            compile=variant != "eager",
            activation_checkpointing=job.get("activation_checkpointing", "none"),
        )
        return entrants.Ours(config, device, train)
    master: entrants.Master = "bfloat16" if variant == "bf16" else "float32"
    if name == "nanogpt":
        return entrants.nanogpt(config, device, master, job["nanogpt"])
    return getattr(entrants, name)(config, device, master)


def tokens_of(job: dict[str, Any], batch: int) -> Iterator[Any]:
    """The job's batches: of its data set, or random where it names none."""
    if job["data"]:
        return batches(Path(job["data"]), batch, job["block"])

    from jobctl.jobs.catalog.loader import load_model

    vocabulary = job.get("shape", {}).get("vocab_size") or load_model(job["model"]).config.vocab_size
    return random_batches(vocabulary, batch, job["block"])


def measure(job: dict[str, Any], waited: float) -> dict[str, Any]:
    """Milliseconds of whole optimiser steps, and the peaks of memory at each of the job's batch sizes.

    Without ``data`` the tokens are random. ``memory_gib`` makes the GPU as small as that.
    """
    import torch

    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)
    if "memory_gib" in job:
        whole = torch.cuda.mem_get_info()[1] / 2**30
        torch.cuda.set_per_process_memory_fraction(job["memory_gib"] / whole, device)

    entrant = build(job, device)
    result: dict[str, Any] = {"note": entrant.note, "peak_gib": {}, "reserved_gib": {}}
    for batch in [*job.get("also", []), job["batch"]]:
        source = tokens_of(job, batch)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        loss = entrant.step(source, 2).item()
        result.setdefault("first_step_s", time.perf_counter() - STARTED - waited)
        result.setdefault("first_loss", loss)
        result["peak_gib"][batch] = torch.cuda.max_memory_allocated() / 2**30
        result["reserved_gib"][batch] = torch.cuda.max_memory_reserved() / 2**30
    result["gpu_gib"] = torch.cuda.mem_get_info()[1] / 2**30
    return result | (timed(entrant, source, job) if job["steps"] else {})


def timed(entrant: Any, source: Iterator[Any], job: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds of ``steps`` steps, or of as many as fit in ``seconds``, and at least of three."""
    import torch

    gc.collect()
    gc.disable()
    marks = [torch.cuda.Event(enable_timing=True)]
    begin = time.perf_counter()
    marks[0].record()
    while len(marks) <= job["steps"] and (time.perf_counter() - begin < job["seconds"] or len(marks) < 4):
        loss = entrant.step(source, job["accumulation"])
        marks.append(torch.cuda.Event(enable_timing=True))
        marks[-1].record()
        marks[-2].synchronize()  # stay one step ahead, so that the time limit holds
    marks[-1].synchronize()
    steps = [round(a.elapsed_time(b), 2) for a, b in itertools.pairwise(marks)]
    return {"steps_ms": steps, "step_ms": statistics.median(steps), "last_loss": loss.item()}


def main() -> None:
    sys.path.insert(0, os.getcwd())
    import torch

    before = time.perf_counter()
    job = json.loads(sys.stdin.readline() or "null")
    if job is None:  # nobody needs this process any more
        return
    torch._dynamo.config.automatic_dynamic_shapes = False
    try:
        result = measure(job, time.perf_counter() - before)
    except Exception as error:  # reported beside the others' results
        result = {"error": f"{type(error).__name__}: {error}"[:400]}
    print(json.dumps(job | result | {"torch": torch.__version__, "device": torch.cuda.get_device_name()}))


if __name__ == "__main__":
    main()
