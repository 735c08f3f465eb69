"""The report of one rank when training hangs: plain data that the others get as JSON."""

from __future__ import annotations

import msgspec


class Frame(msgspec.Struct, frozen=True):
    """One line of a stack."""

    file: str
    line: int
    function: str


class Collective(msgspec.Struct, frozen=True, kw_only=True):
    """A collective that a rank has begun, from torch's flight record."""

    group: str
    number: int
    """Counted in its group, from 1 on, alike on every rank."""
    name: str
    shapes: tuple[tuple[int, ...], ...] = ()
    dtypes: tuple[str, ...] = ()
    completed: bool = False

    def __str__(self) -> str:
        sizes = ", ".join(
            f"{list(shape)}{f' {dtype}' if dtype else ''}"
            for shape, dtype in zip(self.shapes, [*self.dtypes, *[""] * len(self.shapes)], strict=False)
        )
        return f"{self.name} of {sizes}" if sizes else self.name


class Worker(msgspec.Struct, frozen=True):
    """A process that reads data for a rank."""

    pid: int
    state: str
    """Letter of proc(5); empty if the process is gone."""
    stack: tuple[Frame, ...] = ()


class Place(msgspec.Struct, frozen=True):
    """The place of a rank."""

    rank: int
    host: str
    pid: int
    machine: str = ""
    """Machine and PID namespace, in which ``pid`` can be looked up."""

    def __str__(self) -> str:
        return f"rank {self.rank} ({self.host}, process {self.pid})"


class Dump(msgspec.Struct, frozen=True, kw_only=True):
    """One rank at the moment when a hang was declared."""

    place: Place
    idle_seconds: float
    doing: str = ""
    """The reason for which it was allowed to take long."""
    stack: tuple[Frame, ...] = ()
    """Frames of the main thread, the innermost first."""
    collectives: tuple[Collective, ...] = ()
    workers: tuple[Worker, ...] = ()
    neighbours: dict[int, str] = {}
    """States (proc(5)) of the ranks on the same machine."""
