"""Copies live tensors into host memory, from which they are written while training goes on.

Usually all of this rank's share is copied at once into an arena that is kept. Where the host has too little
memory for that, pieces are copied while they are written, and training waits until all of them have been.
"""

from __future__ import annotations

import logging
import resource
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import torch

from jobctl.trainer.checkpoint.arena import Arena, PinningRefused, aligned
from jobctl.trainer.checkpoint.buffers import PIECE_BYTES, ThreadBuffers
from jobctl.trainer.checkpoint.plan import Rows, local_rows
from jobctl.trainer.distributed import local

log = logging.getLogger(__name__)
GB = 1e9


class Snapshot(Protocol):
    """The values that some rows had when it was made."""

    live: bool
    """Whether it reads the live tensors, which must not change until all is read."""

    def source(self, rows: Rows) -> Iterable[memoryview]:
        """The bytes of rows, in order."""


class Staging:
    """Makes snapshots of this rank's share. One snapshot at a time: the next one takes the same memory."""

    def __init__(self, device: torch.device, needed: int, budget: int) -> None:
        """``needed``: bytes of the largest snapshot; ``budget``: bytes of host memory that may be kept."""
        self.device = device
        self.needed = needed
        self.budget = budget
        on_gpu = device.type == "cuda"
        self.stream = torch.cuda.Stream(device) if on_gpu else None
        self.arena = Arena(needed, device) if needed <= budget else None
        self._preparation = threading.Thread(target=self._prepare, name="checkpoint-memory", daemon=True)
        self._preparation.start()

    def _prepare(self) -> None:
        """The background thread: take the memory before the first save needs it."""
        if self.arena is None:
            return

        try:
            self.arena.reserve()
        except (PinningRefused, OSError) as error:
            log.warning(
                "checkpoints: %.1f GB of host memory cannot be pinned (%s; ulimit -l is %s): "
                "saves go in chunks, and training waits for them",
                self.needed / GB,
                error,
                locked_limit(),
            )

            self.arena = None

    def wait(self) -> None:
        """Return when the memory is there."""
        self._preparation.join()

    def describe(self) -> str:
        """How saves are made, for people."""
        kind = "pinned host memory" if self.device.type == "cuda" else "host memory"
        if self.needed <= self.budget:
            return f"a save copies {self.needed / GB:.2f} GB a rank into {kind} that is kept"

        return (
            f"a save goes in chunks, and training waits for it: a copy takes {self.needed / GB:.2f} GB a rank, "
            f"the host has {self.budget / GB:.2f} GB for it"
        )

    def snapshot(self, tensors: Mapping[str, torch.Tensor], share: Iterable[Rows]) -> Snapshot:
        """Copy the rows of ``share``; returns when the live tensors may change, unless the snapshot is live."""
        self.wait()
        if self.arena is None:
            return LiveSnapshot(tensors, self.device)

        positions = place(share)
        if self.stream is None:
            copy_into(self.arena, tensors, positions)
        else:
            # On a stream of its own: the copy engine works while nothing else waits in this queue.
            self.stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(self.stream):
                copy_into(self.arena, tensors, positions)
                copied = self.stream.record_event()

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
            buffer.copy_(piece)
            yield buffer.numpy().data


def place(share: Iterable[Rows]) -> dict[Rows, int]:
    """Where in an arena each of the rows goes."""
    positions: dict[Rows, int] = {}
    end = 0
    for rows in share:
        positions[rows] = end
        end += aligned(rows.bytes)

    return positions


def bytes_needed(share: Iterable[Rows]) -> int:
    """Size of an arena that holds the rows."""
    return sum(aligned(rows.bytes) for rows in share)


def copy_into(arena: Arena, tensors: Mapping[str, torch.Tensor], positions: Mapping[Rows, int]) -> None:
    """Queue the copies of all rows; on a GPU they are under way when this returns."""
    for rows, position in positions.items():
        data = local_bytes(tensors[rows.name], rows)
        begin = 0
        for part in arena.parts(position, rows.bytes):
            part.copy_(data[begin : begin + part.numel()], non_blocking=True)
            begin += part.numel()


def local_bytes(tensor: torch.Tensor, rows: Rows) -> torch.Tensor:
    """The bytes of rows that this rank holds, flat, in the tensor's own memory where it is contiguous."""
    part = local(tensor.detach())
    if part.ndim:
        first, _ = local_rows(tensor)
        part = part[rows.start - first : rows.stop - first]

    return part.reshape(-1).view(torch.uint8)


def locked_limit() -> str:
    """``ulimit -l`` in words."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return "unlimited" if limit == resource.RLIM_INFINITY else f"{limit // 1024} kB"
