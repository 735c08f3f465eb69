"""A training of the trainer's own parts in this process, for benchmarks that take its steps themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobctl.trainer.distributed import World
from jobctl.trainer.lifecycle.stop import StopRequest
from jobctl.trainer.options import parse
from jobctl.trainer.training.assembly import assemble
from jobctl.trainer.training.loop import Training


class Silence:
    """Neither a console nor a watchdog."""

    def line(self, text: str) -> None: ...

    def beat(self) -> None: ...

    progress = line


def prepare(flags: Sequence[str], world: World) -> Training:
    """Return a training of the trainer's flags, up to its first step."""
    options = parse(flags)
    silence: Any = Silence()

    return Training(assemble(options, world), silence, StopRequest(options.run_dir, world), silence)
