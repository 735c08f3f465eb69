"""The trainer's launcher and ranks, but rank 1 stops in the middle of its fourth step. For test_commands.py."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator

import torch

from jobctl.trainer.lifecycle.watchdog import Watchdog

STARTING = 120
"""Seconds until the first step, for which ``--hang_timeout`` may be too short on a busy machine."""


def hang_at_step_four(batches: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
    for step, batch in enumerate(batches):
        if step == 3 and os.environ["RANK"] == "1":
            threading.Event().wait()
        yield batch


class PatientAtFirst(Watchdog):
    """``--hang_timeout`` counts from the first step on."""

    def __enter__(self) -> Watchdog:
        wanted, self.timeout_seconds = self.timeout_seconds, STARTING
        super().__enter__()
        self.timeout_seconds = wanted
        return self


def main() -> int:
    if "RANK" in os.environ:
        from jobctl.trainer.__main__ import die_with_parent
        from jobctl.trainer.__main__ import main as rank_main
        from jobctl.trainer.training import loop, session

        die_with_parent()
        whole = loop.micro_batches
        loop.micro_batches = lambda *a, **k: hang_at_step_four(whole(*a, **k))  # type: ignore[assignment]
        session.Watchdog = PatientAtFirst  # type: ignore[misc]
        return rank_main(sys.argv[1:])
    from jobctl.trainer import launch

    launch.WORKER = __name__ if __name__ != "__main__" else "tests.trainer.hanging_rank"
    return launch.main(sys.argv[1:])


if __name__ == "__main__":
    os._exit(main())
