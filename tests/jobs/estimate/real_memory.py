"""The peak of the real allocator of this machine's CPU, while a training takes steps."""

from __future__ import annotations

import torch
from torch.profiler import ProfilerActivity, profile

from bench.entrants import Ours
from jobctl.jobs.estimate.situation import Situation


def peak_bytes(situation: Situation, steps: int = 2) -> int:
    """Return the largest sum of all memory that PyTorch's allocator has given away at once."""
    train = situation.train
    shape = (train.batch_size, train.block_size + 1)
    micro_steps = train.gradient_accumulation_steps

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        trainer = Ours(situation.model, torch.device("cpu"), train)
        for _ in range(steps):
            batches = iter([torch.randint(0, 1000, shape) for _ in range(micro_steps)])
            trainer.step(batches, micro_steps)

    events = trace.profiler.kineto_results.events()
    live = 0
    peak = 0
    for event in events:
        if event.name() == "[memory]" and event.device_type() == torch.autograd.DeviceType.CPU:
            live += event.nbytes()
            peak = max(peak, live)

    return peak
