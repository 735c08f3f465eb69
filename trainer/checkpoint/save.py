"""One save: copy, write and publish a checkpoint, time each part, and report it."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch

from jobctl.jobs.core.amounts import short_bytes
from jobctl.jobs.core.durable import write_whole
from jobctl.trainer.checkpoint import publication
from jobctl.trainer.checkpoint.contents import TABLE_FILE
from jobctl.trainer.checkpoint.host_memory import ranks_of_node
from jobctl.trainer.checkpoint.integrity import CHECKSUMS_FILE, encode_checksums
from jobctl.trainer.checkpoint.plan import Rows
from jobctl.trainer.checkpoint.staging import Snapshot
from jobctl.trainer.checkpoint.state import STATE_FILE, State
from jobctl.trainer.checkpoint.table import DTYPE_NAMES, Segment, Table, TensorEntry

STREAMS_PER_NODE = 16
STREAMS_PER_RANK = 8
"""The most files that a rank writes at the same time. Many ranks on a node share the node's number."""
MODEL = "model."
"""Prefix of the weights among the names of tensors."""

Holds = Literal["everything", "weights"]
Written = list[tuple[str, Segment]]


@dataclasses.dataclass
class Save:
    """A save that has begun on this rank."""

    state: State
    holds: Holds
    best: bool
    final: Path
    """The folder of the finished checkpoint."""
    entries: dict[str, TensorEntry]
    """Every tensor of the checkpoint, of all ranks, without its segments."""
    share: list[Rows]
    snapshot: Snapshot
    begun: float
    """``time.perf_counter()`` when its copy began."""
    pause_seconds: float = 0.0
    """The pause of the training for the copy, without the wait for the save before."""
    waited_seconds: float = 0.0
    """The wait of the training for the save before."""
    copied: threading.Event = dataclasses.field(default_factory=threading.Event)
    """Set when the live tensors are no longer read."""

    @property
    def temporary(self) -> Path:
        return publication.temporary_folder(self.final)


@dataclasses.dataclass(frozen=True)
class Report:
    """A published checkpoint, and its cost."""

    step: int
    path: Path
    holds: Holds
    bytes: int
    """Bytes of tensors over all ranks."""
    pause_seconds: float
    """The longest of all ranks."""
    waited_seconds: float
    write_seconds: float
    """Time from the beginning of the copy to the name in LATEST or BEST."""

    def record(self) -> dict[str, Any]:
        """Return its line for the run log."""
        return {
            "kind": "checkpoint",
            "iter": self.step,
            "path": str(self.path),
            "holds": self.holds,
            "checkpoint_pause_ms": round(1e3 * self.pause_seconds, 1),
            "checkpoint_wait_ms": round(1e3 * self.waited_seconds, 1),
            "write_seconds": round(self.write_seconds, 3),
            "bytes": self.bytes,
        }

    def __str__(self) -> str:
        name = "checkpoint" if self.holds == "everything" else "best weights"
        rate = self.bytes / self.write_seconds if self.write_seconds else 0.0
        return (
            f"{name} of step {self.step} is in {self.path}: training paused {1e3 * self.pause_seconds:.0f} ms, "
            f"durable after {self.write_seconds:.1f} s ({short_bytes(self.bytes)}, {short_bytes(rate)}/s)"
        )


@dataclasses.dataclass(frozen=True)
class Begun:
    """The answer to a request for a save."""

    skipped: bool
    """True if nothing was saved because another save was still being written."""
    writing_seconds: float = 0.0
    """The time that the other save had taken so far; 0 without one."""
    waited_seconds: float = 0.0
    """The wait of the training for the other save."""


def select(tensors: Mapping[str, torch.Tensor], holds: Holds) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint that holds everything, or only weights."""
    return {n: tensor for n, tensor in tensors.items() if holds == "everything" or n.startswith(MODEL)}


def entries_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, TensorEntry]:
    """Return types and whole shapes for the table."""
    return {
        name: TensorEntry(DTYPE_NAMES[tensor.dtype], tuple(tensor.shape), ())
        for name, tensor in tensors.items()
    }


def streams() -> int:
    """Return the number of files that this rank writes at the same time."""
    return max(1, min(STREAMS_PER_RANK, STREAMS_PER_NODE // ranks_of_node()))


def write_small_files(save: Save, written: Written) -> None:
    """Write table, state and checksums, durable on return.

    The data files of all ranks must be written before.
    """
    segments: dict[str, list[Segment]] = {name: [] for name in save.entries}
    for name, segment in written:
        segments[name].append(segment)

    table = Table(
        {
            name: msgspec.structs.replace(entry, segments=tuple(segments[name]))
            for name, entry in save.entries.items()
        }
    )

    folder = save.temporary
    small_files = {TABLE_FILE: msgspec.json.encode(table), STATE_FILE: msgspec.json.encode(save.state)}

    for name, data in small_files.items():
        write_whole(folder / name, data)

    # The checksums come last. They say of every other file what it must be.
    data_files = {segment.file for _, segment in written}
    sizes = {name: os.stat(folder / name).st_size for name in data_files}
    write_whole(folder / CHECKSUMS_FILE, encode_checksums(small_files, sizes))


def describe(error: BaseException) -> str:
    """Return one line about the first cause of an error."""
    # An OSError says what a person can mend. The errors around it only say where it was met.
    while not isinstance(error, OSError) and (error.__cause__ or error.__context__):
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return f"{type(error).__name__}: {error}"
