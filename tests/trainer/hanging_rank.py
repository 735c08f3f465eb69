"""The trainer's launcher and ranks, but rank 1 stops in the middle of its fourth step. For test_commands.py."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator

import torch

from trainer.watchdog import Watchdog

PATIENCE = 5
"""Seconds; only once the steps have begun, for on a busy machine starting may take longer."""


def hang_at_step_four(batches: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
    for step, batch in enumerate(batches):
        if step == 3 and os.environ["RANK"] == "1":
            threading.Event().wait()
        yield batch


class Impatient(Watchdog):
    """Its patience is short from the second beat on; the first is before the run is put together."""

    def beat(self) -> None:
        super().beat()
        self.timeout_seconds = PATIENCE


def main() -> int:
    if "RANK" in os.environ:
        from trainer import loop, session
        from trainer.__main__ import die_with_parent
        from trainer.__main__ import main as rank_main

        die_with_parent()
        whole = loop.micro_batches
        loop.micro_batches = lambda *a, **k: hang_at_step_four(whole(*a, **k))  # type: ignore[assignment]
        session.Watchdog = Impatient  # type: ignore[misc]
        return rank_main(sys.argv[1:])
    from trainer import launch

    launch.WORKER = __name__ if __name__ != "__main__" else "tests.trainer.hanging_rank"
    return launch.main(sys.argv[1:])


if __name__ == "__main__":
    os._exit(main())
