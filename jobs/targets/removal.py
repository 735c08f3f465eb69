"""The ways to remove a run: from a directory that this host sees, or from the cluster that keeps the run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.stamps import seconds_of
from jobctl.jobs.runs import removal
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.store import Run, State, Status
from jobctl.jobs.targets.protocol import Remover, RemovesRuns, Removing
from jobctl.jobs.targets.registry import load_target, target_entry


def remover_of(run: Run, home: Path) -> Remover:
    """Return the remover for the target of ``run``. ``home`` is the root of this host."""
    if target_entry(run.target).keeps_records:
        return ClusterRemover(run.target, home)
    return DirectoryRemover()


class DirectoryRemover:
    """Removes runs whose directory this host sees: those of Slurm, and those that ran on this machine."""

    def check(self, run: Run, trusted: Sequence[str]) -> None:
        """Raise UserError for a run that another user made or can change."""
        runs.check_ours(run.path, trusted)

    def state(self, run: Run, status: Status) -> State:
        """Return the recorded state. The scheduler may have forgotten the job."""
        return runs.recorded_status(run).state

    def last_sign(self, run: Run, status: Status) -> float:
        """Return the time when the last attempt was written."""
        return _last_written(run)

    def removing(self, chosen: Sequence[Run]) -> contextlib.AbstractContextManager[Removing]:
        """Return access to the directories. They need no preparation."""
        return contextlib.nullcontext(self)

    def size(self, run: Run, checkpoints: bool) -> int:
        """Return the bytes of a run directory, or of its checkpoints."""
        return removal.size_of(run.path, checkpoints)

    def remove(self, run: Run, checkpoints: bool) -> None:
        """Remove a run directory, or its checkpoints."""
        removal.remove(run.path, checkpoints)


class ClusterRemover:
    """Removes runs that a cluster keeps. It also removes the note of such a run on this host."""

    def __init__(self, target: str, home: Path) -> None:
        self._name = target
        self._home = home

    def check(self, run: Run, trusted: Sequence[str]) -> None:
        """Raise UserError for the run of another user, and if a job of the run is running."""
        self._target(run).check_removable(run, trusted)

    def state(self, run: Run, status: Status) -> State:
        """Return the state that the cluster reports, because the cluster keeps the records."""
        return status.state

    def last_sign(self, run: Run, status: Status) -> float:
        """Return the end that the cluster reports, or the time when this host's note was written."""
        return seconds_of(status.end) or _last_written(run)

    @contextlib.contextmanager
    def removing(self, chosen: Sequence[Run]) -> Iterator[Removing]:
        """Yield access to the volumes of ``chosen``. Raises UserError if they cannot be reached."""
        with self._target(chosen[0]).removing(chosen) as volumes:
            yield _WithNotes(volumes, self._home)

    def _target(self, run: Run) -> RemovesRuns:
        target = load_target(self._name)
        if not isinstance(target, RemovesRuns):
            raise UserError(f"target {self._name} cannot remove the files of run '{run.name}'", code=1)

        return target


class _WithNotes:
    """Removes runs from volumes, each together with its note on this host."""

    def __init__(self, volumes: Removing, home: Path) -> None:
        self._volumes = volumes
        self._home = home

    def size(self, run: Run, checkpoints: bool) -> int:
        note = self._note_of(run)
        bytes_here = removal.size_of(note, checkpoints) if note else 0

        return self._volumes.size(run, checkpoints) + bytes_here

    def remove(self, run: Run, checkpoints: bool) -> None:
        # Remove the note last. Until then an interrupted removal can be repeated by name.
        self._volumes.remove(run, checkpoints)
        if note := self._note_of(run):
            removal.remove(note, checkpoints)

    def _note_of(self, run: Run) -> Path | None:
        """Return the directory on this host that records the cluster of exactly this run.

        Return None if it does not exist.
        """
        path = layout.run_dir(self._home, run.path.name)
        if not layout.record_file(path).is_file():
            return None

        noted = runs.read(self._home, path.name)
        if not target_entry(noted.target).keeps_records:
            return None  # a run of this host that has the same name

        # Another cluster may have a run of the same name, and its note must stay.
        return path if _cluster_of(noted) == _cluster_of(run) else None


def _cluster_of(run: Run) -> tuple[str, str]:
    section = run.record.spec.site.kubernetes
    return section.context, section.namespace


def _last_written(run: Run) -> float:
    """Return the time of the last write to a run's attempts, or of the run's submission."""
    folder = run.path / "attempts"
    # A folder's time changes when a record is written into it.
    path = folder if folder.is_dir() else run.path
    if path.exists():
        return path.stat().st_mtime

    return seconds_of(run.record.submitted) or 0.0
