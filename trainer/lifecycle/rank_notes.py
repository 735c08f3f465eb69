"""Notes of the ranks for their launcher. They show what a dead rank was doing.

Each rank has a small file in a folder of the launcher's own, on this node. A rank that is killed cannot tell
anything any more; its file still can.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from jobctl.jobs.core.node_folder import NodeFolder

PREFIX = "jobctl-ranks-"
FOLDER = "JOBCTL_RANK_NOTES"
"""Environment variable that names the launcher's folder. A rank without a launcher writes nothing."""
SIZE = 512
"""Bytes of a note: overwritten by one call, so that nobody reads half of it."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """The place of a rank, and its error."""

    step: int = 0
    """The step that it takes; 0 before the first one."""
    first_sample: int = 0
    samples: int = 0
    """Samples of the step, over all ranks."""
    heals: bool = False
    """Whether it failed with an error that may not occur again after a restart."""
    exchange: str = ""
    """The store in which the ranks of the job report hangs and deaths: ``host:port/name``."""

    def __str__(self) -> str:
        if not self.step:
            return "before its first step"

        last = self.first_sample + self.samples - 1
        return f"in step {self.step}, samples {self.first_sample} to {last}"


class RankNotes:
    """This rank's note."""

    def __init__(self, rank: int, folder: str | None = None) -> None:
        folder = os.environ.get(FOLDER, "") if folder is None else folder
        self.note = Note()
        self._descriptor = -1
        if folder:
            self._descriptor = os.open(Path(folder) / str(rank), os.O_WRONLY | os.O_CREAT, 0o600)
            self._write()

    def talks_at(self, exchange: str) -> None:
        """Note the store in which the ranks report."""
        self.note = msgspec.structs.replace(self.note, exchange=exchange)
        self._write()

    def at(self, step: int, first_sample: int, samples: int) -> None:
        """Take note of the step that begins."""
        self.note = msgspec.structs.replace(self.note, step=step, first_sample=first_sample, samples=samples)
        self._write()

    def failed(self, heals: bool) -> None:
        """Take note of how this rank ends."""
        self.note = msgspec.structs.replace(self.note, heals=heals)
        self._write()

    def _write(self) -> None:
        if self._descriptor >= 0:
            # Without fsync: only the launcher on this node reads it, and each step writes.
            os.pwrite(self._descriptor, msgspec.json.encode(self.note).ljust(SIZE), 0)


class NoteFolder:
    """The launcher's folder of notes."""

    def __init__(self) -> None:
        self._folder = NodeFolder(PREFIX)
        # Apart from the lock: whatever lies here is a note.
        self.path = self._folder.path / "notes"
        self.path.mkdir()
        os.environ[FOLDER] = str(self.path)

    def take(self) -> dict[int, Note]:
        """Return the notes by rank, and forget them."""
        notes = {}
        for path in self.path.iterdir():
            try:
                notes[int(path.name)] = msgspec.json.decode(path.read_bytes(), type=Note)
            except (OSError, ValueError):  # a rank that was killed before it had written
                continue
            finally:
                path.unlink(missing_ok=True)

        return notes

    def close(self) -> None:
        """Remove the folder."""
        os.environ.pop(FOLDER, None)
        self._folder.close()
