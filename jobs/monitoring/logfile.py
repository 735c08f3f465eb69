"""Our own log files, ``metrics/run_<stamp>.jsonl``. They are read while they grow, each line once.

A kill may cut the last line short. A node's crash may leave a hole of zero bytes. Another version may
write kinds of lines and fields that this one does not know. None of these is an error.
"""

from __future__ import annotations

import datetime
import errno
import gc
import typing
from pathlib import Path

import msgspec

from jobctl.jobs.core import layout
from jobctl.jobs.core.amounts import counted
from jobctl.jobs.core.log_files import LOG_NAME, Kind, log_names
from jobctl.jobs.core.reading import MOST_BYTES_OF_A_LOG, open_within
from jobctl.jobs.monitoring.document import newest_document, read_document
from jobctl.jobs.monitoring.history import History, Joined, Line

_DECODER = msgspec.json.Decoder(Line)


class _Kind(msgspec.Struct):
    """The one field that every line has."""

    kind: str = ""


_KINDS = frozenset(str(kind.__struct_config__.tag) for kind in typing.get_args(Line))
_KIND = msgspec.json.Decoder(_Kind)


def stamp_seconds(name: str) -> float | None:
    """Return the time in a log's name as seconds since the epoch; None if the name has no time."""
    match = LOG_NAME.fullmatch(name)
    if not match:
        return None

    try:
        # `%f` takes six digits, and a stamp has milliseconds.
        moment = datetime.datetime.strptime(match["stamp"] + "000", "%Y%m%d-%H%M%S-%f")
    except ValueError:  # digits, but no date
        return None

    return moment.replace(tzinfo=datetime.timezone.utc).timestamp()


class LogFile:
    """One log file as far as it has been read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[Line] = []
        self.damaged = 0
        self._offset = 0
        self._torn = b""

    def read_on(self) -> bool:
        """Read the lines that are new since the last call. Return whether there were any.

        Raises OSError, also for a log that is longer than ``MOST_BYTES_OF_A_LOG``.
        """
        with open_within(self.path, MOST_BYTES_OF_A_LOG) as file:
            file.seek(self._offset)
            data = file.read(MOST_BYTES_OF_A_LOG)

        if not data:
            return False

        # The torn bytes count as read, because `_torn` keeps them.
        self._offset += len(data)
        data = self._torn + data
        end = data.rfind(b"\n") + 1
        # The last line may be incomplete: it is read when its end is written.
        self._torn = data[end:]
        self._decode(data[:end])
        return True

    def _decode(self, data: bytes) -> None:
        # No object of a log refers to another one. A garbage collection here frees nothing and costs a third.
        collecting = gc.isenabled()
        gc.disable()
        try:
            self.lines += _DECODER.decode_lines(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            # One damaged line fails the whole block, so each line is then decoded alone.
            for line in data.splitlines():
                self._decode_line(line)
        finally:
            if collecting:
                gc.enable()

    def _decode_line(self, line: bytes) -> None:
        """Take one line. If it is damaged, only that line is lost."""
        if not line.strip():
            return

        try:
            self.lines.append(_DECODER.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self.damaged += not _is_of_another_version(line)


def _is_of_another_version(line: bytes) -> bool:
    """Return whether the line is complete, and only its kind is unknown to this version."""
    try:
        kind = _KIND.decode(line).kind
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False

    return kind not in _KINDS


class RunLog:
    """All log files of one run directory. ``read`` may be called again and again. It reads only new lines."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._files: dict[str, LogFile] = {}
        self._too_long: dict[str, str] = {}

    def read(self) -> History:
        """Return the history so far; an empty one before the first line.

        A run whose logs were not copied is read from its documents. Raises UserError for one that cannot be
        read.
        """
        files = self._opened("run")
        scores = self._opened("eval")
        if not files and not scores:
            history = self._documented()
            history.notes += self._too_long.values()
            return history

        # The logs are joined anew at each call: a new attempt may roll back steps that were shown.
        history = History(name=self.run.name, path=self.run, notes=[*self._too_long.values()])
        joined = Joined(history)
        for name, file in files.items():
            joined.add(name, stamp_seconds(name), file.lines)
            if file.damaged:
                history.notes.append(f"{file.path}: skipped {counted(file.damaged, 'damaged line')}")

        # A later evaluation of a checkpoint wrote a log of its own.
        for name, file in scores.items():
            scored = History(name=name, path=file.path)
            Joined(scored).add(name, None, file.lines)
            history.evaluations += scored.evaluations
            history.config = history.config or scored.config
            history.startup = history.startup or scored.startup

        history.evaluations.sort(key=lambda evaluation: evaluation.iter)
        history.last_write = self._last_write()

        return history

    def _documented(self) -> History:
        """Return the history from the documents; an empty history without any."""
        # The trainer writes all attempts into the newest document.
        training = newest_document(self.run, "run")
        scoring = newest_document(self.run, "eval")
        empty = History(name=self.run.name, path=self.run)
        history = read_document(training) if training else empty
        scored = read_document(scoring) if scoring else empty

        history.name = self.run.name
        history.path = self.run
        history.evaluations += scored.evaluations
        history.evaluations.sort(key=lambda evaluation: evaluation.iter)
        history.config = history.config or scored.config
        history.startup = history.startup or scored.startup

        return history

    def _opened(self, kind: Kind) -> dict[str, LogFile]:
        """Return the log files of a kind, oldest first, each read to its end."""
        files: dict[str, LogFile] = {}
        for name in log_names(self.run, kind):
            # A known file keeps its place, so only its new lines are read.
            file = self._files.setdefault(name, LogFile(layout.metrics_dir(self.run) / name))
            try:
                file.read_on()
            except OSError as error:
                # Other errors: the file was removed since it was listed, or it is no file of ours.
                if error.errno == errno.EFBIG:
                    self._too_long[name] = f"{file.path}: left out: {error.strerror}"

                continue

            files[name] = file

        return files

    def _last_write(self) -> float | None:
        """Return the time of the last write to the newest training log."""
        times: list[float] = []
        # An evaluation of a checkpoint does not show that the training is alive.
        for name in log_names(self.run, "run"):
            try:
                times.append((layout.metrics_dir(self.run) / name).stat().st_mtime)
            except OSError:
                continue

        return max(times, default=None)
