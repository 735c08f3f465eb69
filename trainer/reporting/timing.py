"""Measure the parts of a step's time without stopping the device."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from jobctl.trainer import distributed as parallel
from jobctl.trainer.distributed import Sharding

GIGA = 1e9


class StepTimer:
    """Adds up, over a log interval, waiting for data and the parts of a step.

    The host measures the waiting. Device events, or the host's clock, measure the parts.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.reducing = False
        self.reset()

    def reset(self) -> None:
        """Begin a new interval."""
        self.started = time.perf_counter()
        self.steps = 0
        self.data_wait = 0.0
        self._marks: list[tuple[str, Any]] = []

    def begin_step(self) -> None:
        self.steps += 1
        self.mark("begin")

    def mark(self, part: str) -> None:
        """The part of the step called ``part`` ends here in the device's queue."""
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append((part, event))
        else:
            self._marks.append((part, time.perf_counter()))

    @contextlib.contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """On a CPU the time is no part of the computation.

        A GPU's queue may have work while the host waits.
        """
        if self.device.type != "cuda":
            self.mark("compute")

        asked = time.perf_counter()
        yield
        self.data_wait += time.perf_counter() - asked
        if self.device.type != "cuda":
            self.mark("begin")

    def time_reduction(self, model: nn.Module, sharding: Sharding) -> None:
        """From now on the last backward pass of a step marks the end of computing. Only the reduction follows.

        That is when the embedding's gradient, the last one, has been computed: what the ranks still wait for
        then is communication that nothing hides. Gathering weights early enough is not in it.
        """
        embedding = parallel.unwrapped(model).embed_tokens
        assert isinstance(embedding, nn.Module)
        if sharding == "ddp":
            weight = embedding.weight
            assert isinstance(weight, nn.Parameter)
            weight.register_post_accumulate_grad_hook(lambda _: self._end_compute())
        else:  # fully_shard replaces the parameter, so the hook is on the node that computes its gradient
            embedding.register_forward_hook(self._watch_node)

    def _watch_node(self, module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        if output.grad_fn is not None:
            output.grad_fn.register_hook(lambda *_: self._end_compute())

    def _end_compute(self) -> None:
        if self.reducing:
            self.mark("compute")

    @contextlib.contextmanager
    def backward_pass(self, last: bool) -> Iterator[None]:
        """Around the backward pass of a micro-step; gradients are reduced in the last one."""
        self.reducing = last
        before = len(self._marks)
        yield
        # Without the hook's mark nobody knows where computing ended.
        if self.reducing and len(self._marks) > before:
            self.mark("communication")

        self.reducing = False

    @contextlib.contextmanager
    def reduction(self) -> Iterator[None]:
        """Around the wait for a reduction that began in the backward pass."""
        self.mark("compute")
        yield
        self.mark("communication")

    def per_step_ms(self) -> dict[str, float]:
        """Milliseconds a step since ``reset``, in all and by part.

        The caller has already waited for the device.
        """
        steps = max(1, self.steps)
        totals = {"dt_ms": (time.perf_counter() - self.started) * 1e3, "data_wait_ms": self.data_wait * 1e3}
        for (_, begin), (part, end) in zip(self._marks, self._marks[1:], strict=False):
            # The time up to a "begin" lies between two steps, and belongs to no part.
            if part != "begin":
                spent = (
                    begin.elapsed_time(end) if isinstance(begin, torch.cuda.Event) else (end - begin) * 1e3
                )
                totals[f"{part}_ms"] = totals.get(f"{part}_ms", 0.0) + spent

        return {name: round(total / steps, 3) for name, total in totals.items()}


def memory_gb(device: torch.device) -> dict[str, float]:
    """Allocated and peak memory in GB: of the GPU, or this process's resident memory on a CPU."""
    if device.type == "cuda":
        allocated = torch.cuda.memory_allocated(device)
        peak = torch.cuda.max_memory_allocated(device)
    else:
        # Linux counts in KiB.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        allocated = peak

    return {"memory_allocated_gb": round(allocated / GIGA, 3), "memory_peak_gb": round(peak / GIGA, 3)}
