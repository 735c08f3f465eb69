"""``--profile``: a PyTorch profiler trace of a few steps, written into the run's metrics."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from jobctl.jobs.core.layout import metrics_dir
from jobctl.trainer.distributed import World

log = logging.getLogger(__name__)
# The first steps compile and fill caches, and the profiler itself needs one to warm up.
SKIPPED = 2
WARMUP = 1
TRACED = 3


class Profiler:
    """Traces steps 4 to 6 of the attempt on each rank, for ``chrome://tracing`` or Perfetto."""

    def __init__(self, enabled: bool, run: Path, world: World) -> None:
        self.path = metrics_dir(run) / f"trace-rank-{world.rank:05d}.json"
        self._profile: profile | None = None
        self._written = False
        if enabled:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            activities = [ProfilerActivity.CPU]
            if world.device.type == "cuda":
                activities.append(ProfilerActivity.CUDA)

            self._profile = profile(
                activities=activities,
                schedule=schedule(wait=SKIPPED, warmup=WARMUP, active=TRACED, repeat=1),
                on_trace_ready=self._write,
            )

            self._profile.start()

    def step(self) -> None:
        """A training step has ended."""
        if self._profile:
            self._profile.step()

    def close(self) -> None:
        if self._profile:
            self._profile.stop()
            if not self._written:
                first = SKIPPED + WARMUP + 1
                log.warning(
                    "no trace: it needs steps %d to %d, and this attempt ended before",
                    first,
                    first + TRACED - 1,
                )

    def _write(self, finished: torch.profiler.profile) -> None:
        self._written = True
        try:
            finished.export_chrome_trace(str(self.path))
            log.info("the trace is in %s", self.path)
        except OSError as error:
            # A trace is worth less than the training.
            log.warning("trace not written: %s", error)
