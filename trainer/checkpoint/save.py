"""One save: what is copied, written and published, how long each took, and how that is said."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch

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
"""Files that a rank writes at once, at most; there are fewer where many ranks share a node."""
MODEL = "model."
"""Prefix of the weights among the names of tensors."""
GB = 1e9

Holds = Literal["everything", "weights"]
Written = list[tuple[str, Segment]]


@dataclasses.dataclass
class Save:
    """A save under way on this rank."""

    state: State
    holds: Holds
    best: bool
    final: Path
    """The folder that it will be."""
    entries: dict[str, TensorEntry]
    """Every tensor of the checkpoint, of all ranks, without its segments."""
    share: list[Rows]
    snapshot: Snapshot
    begun: float
    """``time.perf_counter()`` when its copy began."""
    pause_seconds: float = 0.0
    """How long training stood still for it, apart from waiting for the save before."""
    waited_seconds: float = 0.0
    """How long training waited for the save before."""
    copied: threading.Event = dataclasses.field(default_factory=threading.Event)
    """The live tensors are not read any more."""

    @property
    def temporary(self) -> Path:
        return publication.temporary_folder(self.final)


@dataclasses.dataclass(frozen=True)
class Report:
    """What a published checkpoint is, and what it cost."""

    step: int
    path: Path
    holds: Holds
    bytes: int
    """Of tensors, of all ranks."""
    pause_seconds: float
    """The longest of all ranks."""
    waited_seconds: float
    write_seconds: float
    """From the beginning of the copy to the name in LATEST or BEST."""

    def record(self) -> dict[str, Any]:
        """Its line in the run log."""
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
        rate = self.bytes / GB / self.write_seconds if self.write_seconds else 0.0
        return (
            f"{name} of step {self.step} is in {self.path}: training paused {1e3 * self.pause_seconds:.0f} ms, "
            f"durable after {self.write_seconds:.1f} s ({self.bytes / GB:.2f} GB, {rate:.2f} GB/s)"
        )


@dataclasses.dataclass(frozen=True)
class Begun:
    """What came of asking for a save."""

    skipped: bool
    """Nothing was saved, for the save before was still being written."""
    writing_seconds: float = 0.0
    """How long that save had taken by then; 0 where there was none."""
    waited_seconds: float = 0.0
    """How long training waited for it."""


def select(tensors: Mapping[str, torch.Tensor], holds: Holds) -> dict[str, torch.Tensor]:
    """The tensors that such a checkpoint holds."""
    return {n: tensor for n, tensor in tensors.items() if holds == "everything" or n.startswith(MODEL)}


def entries_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, TensorEntry]:
    """Types and whole shapes, for the table."""
    return {
        name: TensorEntry(DTYPE_NAMES[tensor.dtype], tuple(tensor.shape), ())
        for name, tensor in tensors.items()
    }


def streams() -> int:
    """Files that this rank writes at once."""
    return max(1, min(STREAMS_PER_RANK, STREAMS_PER_NODE // ranks_of_node()))


def write_small_files(save: Save, written: Written) -> None:
    """Write table, state and checksums, durable on return; the data files of all ranks are written already."""
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

    data_files = {segment.file for _, segment in written}
    sizes = {name: os.stat(folder / name).st_size for name in data_files}
    write_whole(folder / CHECKSUMS_FILE, encode_checksums(small_files, sizes))


def describe(error: BaseException) -> str:
    """One line that says what went wrong: the error that others came from."""
    while not isinstance(error, OSError) and (error.__cause__ or error.__context__):
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return f"{type(error).__name__}: {error}"
