"""Run jobs in an existing allocation of Slurm: salloc, Jupyter or VS Code on a compute node.

The script runs in the background on this host, as on the local target, and starts its ranks with srun. jobctl
does not own the allocation, so it neither requeues nor ends it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.records import Attempt, record_kill
from jobctl.jobs.runs.store import ALLOCATION_ENDED, Run, Status, recorded_status, unknown_status
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.targets import local
from jobctl.jobs.targets.local import LocalTarget, is_alive
from jobctl.slurm import script as slurm_script
from jobctl.slurm.allocation import Allocation, parse_allocation, refuse_arrays, refuse_other_cluster, refused
from jobctl.slurm.client import Slurm, SlurmRefused

QUEUE_SECONDS = 3.0
"""Seconds for which Slurm's answer about an allocation is reused. A waiting command asks often."""


class AllocationTarget(LocalTarget):
    """Run the script beside this process, and its ranks in the allocation that SLURM_JOB_ID names."""

    output = "allocation.out"
    start_seconds = 120
    """Modules may load slowly, and the script asks Slurm before its attempt begins."""

    def __init__(self, client: Slurm | None = None, clock: Callable[[], float] = time.time) -> None:
        self._client = client or Slurm()
        self._clock = clock
        self._known: dict[str, tuple[float, bool]] = {}

    def render(self, spec: JobSpec) -> str:
        refuse_arrays(spec)
        return slurm_script.render(spec, allocation=True)

    def submit(self, run: Run, script: Path, after: Sequence[str] = ()) -> str:
        """Submit the run. Raises UserError if no allocation exists, or if it is too small for the job."""
        # Check the cluster first: on another cluster the number of the allocation means a different job.
        refuse_other_cluster(run.record.edited_spec, os.environ.get("SLURM_CLUSTER_NAME", ""))

        # Check this before the script starts. It would wait for nodes that the allocation does not have.
        allocation = self._allocation()
        if refusal := refused(run.record.edited_spec, allocation, self._clock()):
            raise refusal

        super().submit(run, script, after)

        return allocation.id

    def variables(self) -> dict[str, str]:
        # The interpreter of jobctl itself may exist only on this host.
        return {"JOBCTL_QUIET": "1"}

    def cancel(self, run: Run) -> None:
        """Signal the steps of the run until its script has recorded the end.

        This works from any host that reaches Slurm.
        """
        last = _unended(run)
        if last is None:
            return

        # Before the signals, so that the script records "cancelled", however the ranks end.
        runs.request_stop(run.path, "cancel", run.step)
        deadline = time.monotonic() + local.KILL_SECONDS

        while self._is_at_work(run, last):
            late = time.monotonic() > deadline
            self._signal(run, last, signal.SIGKILL if late else signal.SIGTERM)
            # On another host nothing more is possible: after the kill of its steps, only the script remains
            # there.
            if late and not self._is_here(last):
                break

            self._pause(run, last)

        if time.monotonic() > deadline:
            record_kill(run.path, last.attempt)

    # ---- the status of a run

    def _status(self, run: Run) -> Status:
        status = recorded_status(run)
        last = _unended(run)
        if last is None or status.state != "running":
            return self._in_words(run, status)

        try:
            gone = self._trace(run, last)
        except UserError as error:
            return unknown_status(run, error)

        if gone:
            # It may have ended after its record was read and before its process was checked.
            run = runs.read_again(run)
            status = recorded_status(run)

        if not gone or status.state != "running":
            return self._in_words(run, status)

        return msgspec.structs.replace(status, state="lost", detail=f"{gone}; jobctl resume {run.name}")

    def _in_words(self, run: Run, status: Status) -> Status:
        if status.state == "stopped" and run.last is not None and run.last.reason == ALLOCATION_ENDED:
            return msgspec.structs.replace(
                status, detail=f"allocation {run.last.job_id} ended; jobctl resume {run.name}"
            )

        return status

    def _trace(self, run: Run, last: Attempt) -> str:
        """Return the reason why the attempt cannot be running, or an empty text if it can.

        Raises UserError if Slurm does not answer.
        """
        if self._is_here(last):
            return "" if is_alive(last.pid, run.path) else f"process {last.pid} ended without a message"

        return "" if self._is_going(last.job_id) else f"allocation {last.job_id} has ended"

    def _is_at_work(self, run: Run, last: Attempt) -> bool:
        now = {attempt.attempt: attempt for attempt in runs.read_again(run).attempts}
        return now[last.attempt].exit_code is None and not self._trace(run, last)

    def _is_here(self, last: Attempt) -> bool:
        return last.host == os.uname().nodename

    def _is_going(self, allocation: str) -> bool:
        until, going = self._known.get(allocation, (0.0, False))
        if time.monotonic() > until:
            going = any(job.active for job in self._client.job(allocation))
            self._known[allocation] = time.monotonic() + QUEUE_SECONDS, going

        return going

    # ---- questions to Slurm

    def _allocation(self) -> Allocation:
        """Return the allocation of this process. Raises UserError if it does not exist."""
        number = os.environ.get("SLURM_JOB_ID", "")
        hint = "start one with salloc, or use --target slurm"
        if not number:
            raise UserError("this shell is in no allocation: SLURM_JOB_ID is not set", hint=hint)

        try:
            text = self._client.answer(["scontrol", "show", "job", "--details", "--oneliner", number])
        except SlurmRefused as refusal:
            raise UserError(
                f"SLURM_JOB_ID is {number}, but Slurm does not know this job: {refusal.answer}", hint=hint
            ) from None

        return parse_allocation(text)

    def _signal(self, run: Run, last: Attempt, number: signal.Signals) -> None:
        if number == signal.SIGKILL or not self._is_here(last):
            self._client.signal_steps(last.job_id, f"jobctl:{run.name}", number.name.removeprefix("SIG"))

        if self._is_here(last):
            # The shell passes SIGTERM on. srun itself would kill the ranks at once.
            with contextlib.suppress(ProcessLookupError):
                os.kill(last.pid, number)
                # A stopped shell handles a signal only when it continues.
                os.kill(last.pid, signal.SIGCONT)

    def _pause(self, run: Run, last: Attempt) -> None:
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline and self._is_at_work(run, last):
            time.sleep(0.05)


def _unended(run: Run) -> Attempt | None:
    return next((a for a in reversed(run.attempts) if a.exit_code is None), None)


TARGET = AllocationTarget()
