"""This machine: the job is a process group of its own, and the run directory is all there is to ask."""

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

from jobs import runs
from jobs.catalog.errors import UserError
from jobs.render import payload_context, render_template
from jobs.runlogs import read_logs
from jobs.runs import Run, Status, recorded_status
from jobs.spec import JobSpec

START_SECONDS = 20
KILL_SECONDS = 60
"""How long a cancelled job may take to checkpoint and go before it is killed."""


class LocalTarget:
    """Runs the script in the background on this host."""

    chains = False

    def render(self, spec: JobSpec) -> str:
        if spec.resources.nodes > 1:
            raise UserError(
                f"nodes {spec.resources.nodes}: the local target is one machine", hint="--target slurm"
            )
        return render_template("local.sh.j2", payload_context(spec))

    def submit(self, run: Run, script: Path, after: Sequence[str] = ()) -> str:
        """Starts the script in a session of its own and waits until it has written its attempt's record."""
        before = len(run.attempts)
        with (run.path / "logs" / "local.out").open("ab") as output:
            process = subprocess.Popen(
                ["bash", str(script)], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, env={**os.environ, "JOBCTL_PYTHON": sys.executable, "JOBCTL_QUIET": "1"},
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while len(list((run.path / "attempts").glob("[0-9]*.json"))) <= before:
            if process.poll() is not None or time.monotonic() > deadline:
                said = (run.path / "logs" / "local.out").read_text(encoding="utf-8", errors="replace")
                raise UserError(f"the job did not start: {said.strip()[-2000:]}", code=1)
            time.sleep(0.02)
        return str(process.pid)

    def statuses(self, runs: Sequence[Run]) -> list[Status]:
        return [self._status(run) for run in runs]

    def _status(self, run: Run) -> Status:
        status = recorded_status(run)
        last = run.last
        if (
            status.state != "running"
            or last is None
            or last.host != os.uname().nodename
            or _alive(last.pid, run.path)
        ):
            return status
        # It may have ended between the reading of its record and the look at its process.
        status = recorded_status(runs.read_again(run))
        if status.state != "running":
            return status
        return msgspec.structs.replace(
            status,
            state="lost",
            detail=f"process {last.pid} is gone without a word; jobctl resume {run.name}",
        )

    def cancel(self, run: Run) -> None:
        last = run.last
        if last is None or last.exit_code is not None:
            return
        if last.host != os.uname().nodename:
            raise UserError(f"run '{run.name}' is a process on {last.host}; cancel it there", code=1)
        runs.request_stop(run.path, "cancel")
        started = time.monotonic()
        while _alive(last.pid, run.path):
            # Again and again: a process that is just being started does not hear the first one.
            late = time.monotonic() - started > KILL_SECONDS
            with contextlib.suppress(ProcessLookupError):
                os.killpg(last.pid, signal.SIGKILL if late else signal.SIGTERM)
            _wait_for(lambda: not _alive(last.pid, run.path), seconds=1)

    def logs(self, run: Run, *, rank: int | None, attempt: int | None, follow: bool) -> Iterator[str]:
        def ended() -> bool:
            return self._status(runs.read_again(run)).state in runs.ENDED

        return read_logs(run.path, rank=rank, attempt=attempt, follow=follow, ended=ended)


def _wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


def _alive(pid: int, run: Path) -> bool:
    """Whether ``pid`` is still the shell of ``run``'s job and not a later process of the same number."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z" and str(run).encode() in command


TARGET = LocalTarget()
