"""Copy live tensors into host memory. From there they are written while training continues.

Usually the whole share of this rank is copied at once into an arena that is kept. If the host has too little
memory for that, pieces are copied while they are written, and training waits for the last one.
"""

from __future__ import annotations

import logging
import resource
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import torch

from jobctl.jobs.core.amounts import short_bytes
from jobctl.trainer.checkpoint.buffers import PIECE_BYTES, ThreadBuffers
from jobctl.trainer.checkpoint.plan import Rows, local_rows
from jobctl.trainer.distributed import local
from jobctl.trainer.host_memory import Arena, PinningRefused, aligned

log = logging.getLogger(__name__)


class Snapshot(Protocol):
    """The values of some rows at the time of the snapshot."""

    live: bool
    """True if it reads the live tensors. They must not change until everything is read."""

    def source(self, rows: Rows) -> Iterable[memoryview]:
        """Return the bytes of rows, in order."""


class Staging:
    """Make snapshots of this rank's share. Only one exists at a time: the next one takes the same memory."""

    def __init__(self, device: torch.device, needed: int, budget: int) -> None:
        """``needed`` is the size of the largest snapshot, ``budget`` the host memory that may be kept, in bytes."""
        self.device = device
        self.needed = needed
        self.budget = budget
        on_gpu = device.type == "cuda"
        self.stream = torch.cuda.Stream(device) if on_gpu else None
        self.arena = Arena(needed, device) if needed <= budget else None
        self._preparation = threading.Thread(target=self._prepare, name="checkpoint-memory", daemon=True)
        # Pinning many gigabytes takes seconds. Meanwhile the first steps compile.
        self._preparation.start()

    def _prepare(self) -> None:
        """Take the memory in a background thread, before the first save needs it."""
        if self.arena is None:
            return

        try:
            self.arena.reserve()
        except (PinningRefused, OSError) as error:
            log.warning(
                "checkpoints: %s of host memory cannot be pinned (%s; ulimit -l is %s): "
                "saves go in chunks, and training waits for them",
                short_bytes(self.needed),
                error,
                locked_limit(),
            )

            # From now on saves read the live tensors. Too little memory for copies must not end a training.
            self.arena = None

    def wait(self) -> None:
        """Wait until the memory is ready."""
        self._preparation.join()

    def describe(self) -> str:
        """Return in words how saves are made."""
        kind = "pinned host memory" if self.device.type == "cuda" else "host memory"
        if self.needed <= self.budget:
            return f"a save copies {short_bytes(self.needed)} a rank into {kind} that is kept"

        return (
            f"a save goes in chunks, and training waits for it: a copy takes {short_bytes(self.needed)} a rank, "
            f"the host has {short_bytes(self.budget)} for it"
        )

    def snapshot(self, tensors: Mapping[str, torch.Tensor], share: Iterable[Rows]) -> Snapshot:
        """Copy the rows of ``share``. On return the live tensors may change, unless the snapshot is live."""
        # The thread may still be pinning, or may give up just now.
        self.wait()
        if self.arena is None:
            return LiveSnapshot(tensors, self.device)

        positions = place(share)
        if self.stream is None:
            copy_into(self.arena, tensors, positions)
        else:
            # A stream of its own, so that the copies do not wait behind work that the training queues later.
            # The copies themselves wait for the work that is queued now, which makes the values.
            self.stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(self.stream):
                copy_into(self.arena, tensors, positions)
                copied = self.stream.record_event()

            # The host waits, because the next step of the training changes the tensors.
            copied.synchronize()

        return KeptSnapshot(self.arena, positions)


class KeptSnapshot:
    """Copies in an arena."""

    live = False

    def __init__(self, arena: Arena, positions: Mapping[Rows, int]) -> None:
        self.arena = arena
        self.positions = positions

    def source(self, rows: Rows) -> Iterator[memoryview]:
        for part in self.arena.parts(self.positions[rows], rows.bytes):
            yield part.numpy().data


class LiveSnapshot:
    """The live tensors themselves, read through a small buffer of each writing thread."""

    live = True

    def __init__(self, tensors: Mapping[str, torch.Tensor], device: torch.device) -> None:
        self.tensors = tensors
        self.buffers = ThreadBuffers(device)

    def source(self, rows: Rows) -> Iterator[memoryview]:
        data = local_bytes(self.tensors[rows.name], rows)
        for begin in range(0, data.numel(), PIECE_BYTES):
            piece = data[begin : begin + PIECE_BYTES]
            buffer = self.buffers.buffer[: piece.numel()]
            # Not in the background: the bytes must be here when they are handed on.
            buffer.copy_(piece)
            yield buffer.numpy().data


def place(share: Iterable[Rows]) -> dict[Rows, int]:
    """Return the position in an arena of each of the rows."""
    positions: dict[Rows, int] = {}
    end = 0
    for rows in share:
        positions[rows] = end
        end += aligned(rows.bytes)

    return positions


def bytes_needed(share: Iterable[Rows]) -> int:
    """Return the size of an arena that holds the rows."""
    return sum(aligned(rows.bytes) for rows in share)


def copy_into(arena: Arena, tensors: Mapping[str, torch.Tensor], positions: Mapping[Rows, int]) -> None:
    """Queue the copies of all rows. On a GPU they may still be running on return."""
    for rows, position in positions.items():
        data = local_bytes(tensors[rows.name], rows)
        begin = 0
        for part in arena.parts(position, rows.bytes):
            part.copy_(data[begin : begin + part.numel()], non_blocking=True)
            begin += part.numel()


def local_bytes(tensor: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Return the bytes of rows that this rank holds, flat.

    For a contiguous tensor it is a view and no copy.
    """
    part = local(tensor.detach())
    if part.ndim:
        first, _ = local_rows(tensor)
        part = part[rows.start - first : rows.stop - first]

    return part.reshape(-1).view(torch.uint8)


def locked_limit() -> str:
    """Return ``ulimit -l`` in words."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return "unlimited" if limit == resource.RLIM_INFINITY else f"{limit // 1024} kB"
