"""What each way of attention costs a whole step, in turns within one process."""

from __future__ import annotations

import gc
import random
import statistics
import time
from typing import Any

import msgspec
import torch

from bench.determinism.attentions import Exchangeable, told
from bench.determinism.subject import batches, build, configuration

STEPS = 2
"""Steps of a way in a round."""


def milliseconds(model: str, ways: list[str], batch: int, rounds: int, **changes: Any) -> dict[str, Any]:
    """By way: the median of a step of ``batch`` sequences, and its ratio to the first way's in the same round."""
    gc.collect()  # what the model before has left
    torch.cuda.empty_cache()
    device = torch.device("cuda", 0)
    config, train = configuration(model)
    train = msgspec.structs.replace(train, batch_size=batch, gradient_accumulation_steps=1, **changes)
    subject = build(config, train, device)
    assert isinstance(subject.attention, Exchangeable)
    source = batches(config, batch)
    pool = [next(source) for _ in range(4)]
    times: dict[str, list[float]] = {way: [] for way in ways}
    peaks: dict[str, float] = {}
    for turn in range(rounds + 1):
        for way in random.sample(ways, len(ways)):
            subject.attention.exchange(way)
            with told(way):
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
                began = time.perf_counter()
                for step in range(STEPS):
                    subject.stepper.run(iter([pool[step % 4]]), 1e-5, subject.timer)
                torch.cuda.synchronize()
            peaks[way] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
            subject.timer.reset()
            if turn:  # the first turn plans and compiles
                times[way].append((time.perf_counter() - began) / STEPS * 1e3)
    base = times[ways[0]]
    result = {
        way: {
            "ms": round(statistics.median(taken), 2),
            "ratio": round(statistics.median(a / b for a, b in zip(taken, base, strict=True)), 4),
            "peak_gib": peaks[way],
            "all": [round(ms, 2) for ms in taken],
        }
        for way, taken in times.items()
    }
    return {"model": model, "batch": batch, "ways": result, "note": subject.note, "changes": changes}
