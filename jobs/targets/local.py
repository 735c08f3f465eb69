"""Run jobs on this machine.

A job is a process group. Its run directory contains everything that is known about it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.render import payload_context, render_template
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.logs import read_logs
from jobctl.jobs.runs.records import Attempt, BadRun, record_kill
from jobctl.jobs.runs.store import Run, Status, recorded_status, unknown_status
from jobctl.jobs.spec.job_spec import JobSpec

START_SECONDS = 20
"""Seconds for the script to write its attempt's record."""
SILENT_SECONDS = 600
"""Seconds after which a heartbeat is old. It is written every few seconds, but hosts' clocks differ."""
KILL_SECONDS = 60
"""Seconds for a cancelled job to checkpoint and exit. After them the job is killed."""


class LocalTarget:
    """Run the script in the background on this host."""

    output = "local.out"
    """The file in the run's logs that gets the output of the script before its attempt begins."""

    start_seconds = START_SECONDS

    def render(self, spec: JobSpec) -> str:
        return render_template("local/script.sh.j2", payload_context(spec))

    def submit(self, run: Run, script: Path, after: Sequence[str] = ()) -> str:
        """Start the script in a new session, and wait until it has written its attempt's record."""
        # Count before the start: the script may have written its attempt when Popen returns.
        before = _recorded(run)
        with (run.path / "logs" / self.output).open("ab") as output:
            process = subprocess.Popen(
                ["bash", str(script)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C in this terminal, or the end of the terminal, must not reach the job.
                start_new_session=True,
                # Pass the whole environment: on one machine a job gets the variables of the user's shell.
                env={**os.environ, **self.variables()},
            )

        deadline = time.monotonic() + self.start_seconds

        while _recorded(run) <= before:
            if process.poll() is not None or time.monotonic() > deadline:
                said = (run.path / "logs" / self.output).read_text(encoding="utf-8", errors="replace")
                code = process.poll()
                silence = (
                    f"printed nothing for {self.start_seconds} s"
                    if code is None
                    else f"ended with exit code {code}"
                )
                reason = said.strip()[-2000:].removeprefix("jobctl: ") or f"its script {silence}"
                raise UserError(f"the job did not start: {reason}", code=1)

            time.sleep(0.02)

        return str(process.pid)

    def variables(self) -> dict[str, str]:
        """Return the variables that the script gets in addition to this process's environment."""
        return {"JOBCTL_PYTHON": sys.executable, "JOBCTL_QUIET": "1"}

    def statuses(self, runs: Sequence[Run]) -> list[Status]:
        return [self._status_or_unknown(run) for run in runs]

    def _status_or_unknown(self, run: Run) -> Status:
        """Return the status. An unreadable run must not hide the others, so its status is unknown."""
        try:
            return self._status(run)
        except BadRun as error:
            return unknown_status(run, error)

    def _status(self, run: Run) -> Status:
        # A later attempt may have been refused while this one runs, so do not use the last one.
        if alive := _alive(run):
            return recorded_status(msgspec.structs.replace(run, attempts=(alive,)))

        status = recorded_status(run)
        last = run.last
        if status.state != "running" or last is None:
            return status

        if last.host != os.uname().nodename:
            gone = (
                f"the run on {last.host} has not reported for {SILENT_SECONDS // 60} minutes"
                if _is_silent(run)
                else ""
            )
        else:
            # It may have ended after its record was read and before its process was checked.
            status = recorded_status(runs.read_again(run))
            gone = f"process {last.pid} ended without a message"

        if status.state != "running" or not gone:
            return status

        return msgspec.structs.replace(status, state="lost", detail=f"{gone}; jobctl resume {run.name}")

    def _to_cancel(self, run: Run) -> Attempt | None:
        """Return the attempt that has no recorded end. Raises UserError if it runs on another host."""
        last = _alive(run) or run.last
        # No error: it ended while the user typed, and the user wanted it to end.
        if last is None or last.exit_code is not None:
            return None

        if last.host != os.uname().nodename:
            raise UserError(f"run '{run.name}' is a process on {last.host}; cancel it there", code=1)

        return last

    def cancel(self, run: Run) -> None:
        if (last := self._to_cancel(run)) is None:
            return

        # Before the signals: the trainer sees STOP, and the record then says "cancelled" and not "failed".
        runs.request_stop(run.path, "cancel", run.step)
        started = time.monotonic()

        late = False
        while is_alive(last.pid, run.path):
            # Repeat the signal: a process that is just starting does not handle the first one.
            late = time.monotonic() - started > KILL_SECONDS
            with contextlib.suppress(ProcessLookupError):
                # To the whole group, because the ranks are children of the script.
                os.killpg(last.pid, signal.SIGKILL if late else signal.SIGTERM)
                # A stopped process handles a signal only when it continues.
                os.killpg(last.pid, signal.SIGCONT)

            _wait_for(lambda: not is_alive(last.pid, run.path), seconds=1)

        if late:
            # The shell that writes the end of an attempt was killed too.
            record_kill(run.path, last.attempt)

    def logs(self, run: Run, *, rank: int | None, attempt: int | None, follow: bool) -> Iterator[str]:
        def ended() -> bool:
            return self._status(runs.read_again(run)).state in runs.ENDED

        return read_logs(run.path, rank=rank, attempt=attempt, follow=follow, ended=ended, step=run.step)


def _alive(run: Run) -> Attempt | None:
    """Return the newest attempt whose process is alive on this host."""
    host = os.uname().nodename
    alive = [a for a in run.attempts if a.exit_code is None and a.host == host and is_alive(a.pid, run.path)]
    return alive[-1] if alive else None


def _is_silent(run: Run) -> bool:
    """Return whether a training on another host no longer writes a heartbeat.

    The trainer checks this more closely before it begins.
    """
    try:
        beaten = layout.heartbeat_file(run.path).stat().st_mtime
    except OSError:
        return False

    return time.time() - beaten > SILENT_SECONDS


def _recorded(run: Run) -> int:
    """Return the number of attempts that have written their record."""
    return len(list((run.path / "attempts").glob("[0-9]*.json")))


def _wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


def is_alive(pid: int, run: Path) -> bool:
    """Return whether ``pid`` is the shell of ``run``'s job, and not a later process with the same number."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        # The name of a program may contain spaces and brackets, so look for the state after the last
        # bracket.
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except OSError:
        return _is_hidden(pid)

    # A zombie has ended, but its parent has not yet read its exit code.
    # The run's path is a word of the command line, which a later process of this number does not have.
    return state != "Z" and str(run).encode() in command


def _is_hidden(pid: int) -> bool:
    """Return whether /proc hides a process of another user. It may be the job."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False

    return False


TARGET = LocalTarget()
