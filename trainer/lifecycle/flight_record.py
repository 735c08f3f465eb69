"""Torch's flight recorder: the last collectives of this process, with number, shape and state.

Torch can write it as a pickle, and as JSON. Only JSON is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import torch

from jobctl.trainer.lifecycle.dump import Collective

KEPT = "2000"
"""Collectives that torch remembers."""
RENAMED_IN = (2, 9)
"""Torch's version from which on it warns of the older names of these variables."""
TOLD = 50
"""Collectives of each group that a rank tells of."""
SKIP_CLEAN_UP = "3"
"""Value of TORCH_NCCL_ASYNC_ERROR_HANDLING: end the process after an error, and clean nothing up.

With 1 torch takes communicators down first, which can end the process before its record is written.
"""
NAMES_OF_TORCH = ("_dump_nccl_trace_json", "_dump_fr_trace_json")
"""Functions that return a record: NCCL's, and in newer versions that of all other backends."""
COMPLETED = "completed"


class _Entry(msgspec.Struct):
    """The fields of a record's entry that are needed."""

    collective_seq_id: int = 0
    profiling_name: str = ""
    process_group: tuple[str, ...] = ()
    input_sizes: tuple[tuple[int, ...], ...] = ()
    input_dtypes: tuple[str, ...] = ()
    state: str = ""
    is_p2p: bool = False


class _Record(msgspec.Struct):
    entries: tuple[_Entry, ...] = ()


def switch_on() -> None:
    """Let torch keep a record. Call this before the first process group is made. The user's settings stay."""
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    renamed = (major, minor) >= RENAMED_IN
    os.environ.setdefault("TORCH_FR_BUFFER_SIZE" if renamed else "TORCH_NCCL_TRACE_BUFFER_SIZE", KEPT)
    os.environ.setdefault("TORCH_NCCL_DUMP_ON_TIMEOUT", "1")
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", SKIP_CLEAN_UP)


def write_into(folder: Path) -> None:
    """Let torch write its record into ``folder``, in case NCCL's timeout comes before the watchdog's."""
    # The newer and the older name. A torch that does not know one ignores it.
    for name in ("TORCH_NCCL_DEBUG_INFO_TEMP_FILE", "TORCH_FR_DUMP_TEMP_FILE"):
        os.environ.setdefault(name, str(folder / "nccl-trace-"))


def collectives() -> tuple[Collective, ...]:
    """Return the last collectives of each group, oldest first; none if torch keeps no record."""
    latest: dict[str, list[Collective]] = {}
    for data in _records():
        for collective in parse(data):
            latest.setdefault(collective.group, []).append(collective)

    return tuple(collective for entries in latest.values() for collective in entries[-TOLD:])


def _records() -> Iterator[bytes]:
    from torch._C import _distributed_c10d

    for name in NAMES_OF_TORCH:
        read: Callable[..., Any] | None = getattr(_distributed_c10d, name, None)
        if read is None:
            continue

        # With all collectives, also those that have ended.
        data = read(True, False)
        yield data if isinstance(data, bytes) else str(data).encode()


def parse(data: bytes) -> list[Collective]:
    """Return the collectives of a record in JSON. Raises msgspec's errors for other input."""
    record = msgspec.json.decode(data, type=_Record)
    # Messages between two ranks have numbers of their own, which would mix up the count.
    return [_collective(entry) for entry in record.entries if not entry.is_p2p and entry.collective_seq_id]


def _collective(entry: _Entry) -> Collective:
    backend, _, name = entry.profiling_name.rpartition(":")
    number, description = [*entry.process_group, "", ""][:2]
    known = description not in ("", "undefined", "default_pg")
    group = description if known else f"group {number}" if number not in ("", "0") else "the default group"

    return Collective(
        group=f"{group} ({backend})" if backend else group,
        number=entry.collective_seq_id,
        name=name,
        shapes=entry.input_sizes,
        dtypes=entry.input_dtypes,
        completed=entry.state == COMPLETED,
    )
