"""Open the log of a run by a user's word: a run's name, a folder, or a file of another tool."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import msgspec

from jobctl.jobs import kinds
from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.jobs.core.goodput import Goodput
from jobctl.jobs.core.log_files import log_names
from jobctl.jobs.core.run_times import read_goodput
from jobctl.jobs.monitoring.document import read_document
from jobctl.jobs.monitoring.history import History
from jobctl.jobs.monitoring.logfile import RunLog
from jobctl.jobs.runs.cancelled import cancelled_at
from jobctl.jobs.runs.records import Attempt, BadRun, RunRecord, read_attempts, read_record
from jobctl.jobs.spec.job_spec import TrainSpec
from jobctl.jobs.targets.registry import target_entry


class Log(Protocol):
    """A source of a run's history, which is read anew at each call."""

    def read(self) -> History: ...


class DocumentLog:
    """A JSON document of the guide's tools."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> History:
        """Return its present history. Raises UserError."""
        return read_document(self.path)


class Records(msgspec.Struct, frozen=True):
    """The records that jobctl and the scheduler's script wrote. A run by hand has none."""

    record: RunRecord | None = None
    attempts: tuple[Attempt, ...] = ()
    notes: tuple[str, ...] = ()
    """Records that could not be read, with the reason."""
    cancelled: float | None = None
    """The time at which a user cancelled the waiting job, in seconds since the epoch."""

    @property
    def ended(self) -> bool:
        """Return whether the last attempt has ended."""
        return bool(self.attempts) and self.attempts[-1].end is not None


class Opened(msgspec.Struct, frozen=True):
    """A run whose log can be read."""

    name: str
    path: Path
    """The run directory, or the file of another tool."""
    log: Log

    def history(self) -> History:
        """Return the history so far. The record gives facts that no log has yet. Raises UserError."""
        history = self.log.read()
        if history.config:
            return history

        record = self.records().record
        if record and isinstance(record.spec, TrainSpec) and record.spec.checkpoints:
            spec = record.spec
            history.config = {"model_name": spec.model_name, "max_iters": spec.train.max_iters}
            history.startup = {"world_size": spec.world_size}

        return history

    def goodput(self) -> Goodput | None:
        """Return the account of the run's time; None if its log does not give the times of its steps."""
        return read_goodput(self.path) if self.path.is_dir() else None

    def records(self) -> Records:
        """Return the run's present records. A record that cannot be read becomes a note."""
        if not self.path.is_dir():
            return Records()

        notes: list[str] = []
        record: RunRecord | None = None
        if layout.record_file(self.path).exists():
            try:
                record = read_record(layout.record_file(self.path))
            except BadRun as error:
                notes.append(error.message)

        try:
            # An evaluation of a checkpoint is recorded in the same folder, but is not an attempt to train.
            attempts = tuple(a for a in read_attempts(self.path) if a.step not in kinds.ON_A_CHECKPOINT)
        except BadRun as error:
            attempts = ()
            notes.append(error.message)

        return Records(record, attempts, tuple(notes), cancelled_at(self.path))


def open_run(word: str, root: Path) -> Opened:
    """Return the run that ``word`` names: a run below ``root``, or else a folder or a file.

    Raises UserError with the nearest name if there is none, and for a run whose files a cluster has.
    """
    # A run's name wins over a folder of that name in the current directory.
    named = layout.run_dir(root, word)
    if layout.RUN_NAME.fullmatch(word) and named.is_dir():
        _check_is_here(word, named)
        return Opened(word, named, RunLog(named))

    path = Path(word).expanduser()
    if path.is_file():
        return _file(path)

    if path.is_dir():
        return _folder(path)

    runs = layout.runs(root)
    known = sorted(entry.name for entry in runs.iterdir()) if runs.is_dir() else []
    hint = nearest(word, known) if known else f"{root} has no runs yet; is JOBCTL_ROOT right?"
    raise UserError(
        f"no run '{word}' in {runs}, and no such folder or file; {hint}",
        hint="if the run is on a cluster: jobctl collect RUN -o DIR, then name the folder",
    )


def _check_is_here(name: str, run: Path) -> None:
    """Raise UserError if this host has only a note of a cluster's run, without the run's files."""
    parts = ("attempts", "logs", "metrics")
    if not layout.record_file(run).is_file() or any(any((run / part).glob("*")) for part in parts):
        return

    try:
        target = read_record(layout.record_file(run)).spec.target
    except BadRun:  # the reader of the record reports its fault
        return

    if target_entry(target).keeps_records:
        raise UserError(
            f"the files of run '{name}' are on a cluster's volume",
            hint=f"jobctl collect {name} -o DIR, then name the folder",
            code=1,
        )


def _file(path: Path) -> Opened:
    """Return the run of one file.

    A log of ours belongs to its run directory. Any other file is a run by itself.
    """
    # The path is made absolute: a user in the folder names the file alone. A link counts by its own place.
    folder = path.absolute().parent
    if path.suffix == ".jsonl" and folder.name == layout.metrics_dir(Path()).name:
        return _folder(folder.resolve().parent)

    return Opened(path.stem, path, DocumentLog(path))


def _folder(path: Path) -> Opened:
    """Return the run of a folder.

    That is a run directory, or the newest document in an output folder of the guide's tools.
    """
    name = path.resolve().name
    # A job that was refused before its first step has only attempts and logs. doctor must still open it.
    begun = layout.record_file(path).exists() or (path / "attempts").is_dir() or (path / "logs").is_dir()
    if begun or log_names(path) or log_names(path, "eval"):
        return Opened(name, path, RunLog(path))

    documents = [*path.glob("run_*.json"), *layout.metrics_dir(path).glob("run_*.json")]
    if not documents:
        # A training that has not written its first line has an empty folder.
        if layout.metrics_dir(path).is_dir():
            return Opened(name, path, RunLog(path))

        raise UserError(
            f"{path} is not a run: it has neither metrics/run_*.jsonl nor run_*.json",
            hint="jobctl list shows the runs of this root",
            code=1,
        )

    # Files that were copied together have the same time. Then the later stamp counts.
    newest = max(documents, key=lambda file: (os.stat(file).st_mtime, file.name))

    return Opened(name, newest, DocumentLog(newest))
