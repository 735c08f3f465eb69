"""Determine the status of a run from its records and from Slurm's reports on its jobs. All pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from jobctl.jobs.core.layout import log_dir, record_file
from jobctl.jobs.core.reading import read_regular
from jobctl.jobs.core.stamps import seconds_of
from jobctl.jobs.core.text import visible
from jobctl.jobs.runs.store import ENDED, NODE_FAILURE, Run, State, Status, recorded_status, state_of
from jobctl.slurm.job_ids import read_job_ids
from jobctl.slurm.jobs import Job, array_of, of_run, run_comment
from jobctl.slurm.reasons import job_words

RETRIED = frozenset({"busy", "failed", "hardware"})
"""Reasons of an attempt's end after which a job starts again, if retries remain."""
EXIT_TERMINATED = 143
"""128 + SIGTERM."""
SLURM_ENDED_IT = frozenset({"BOOT_FAIL", "DEADLINE", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"})
RECORD_SECONDS = 30
"""Seconds for an attempt's record to appear. A network file system shows an older one for a while."""
SUBMISSION_SECONDS = 120
"""If Slurm does not know a run of at most this age in seconds, the run is still being submitted."""


def comment_of(run: Run) -> str:
    """Return the comment of a run's jobs. Raises UserError if it is too long for Slurm."""
    return run_comment(run.path, run.record.spec.site.slurm.comment)


def jobs_of(run: Run, jobs: Collection[Job]) -> list[Job]:
    """Return the jobs that work, worked or will work on ``run``, oldest first."""
    attempts = {attempt.job_id for attempt in run.attempts}
    return of_run(jobs, run.name, comment_of(run), attempts, _submitted_ids(run, jobs))


def _submitted_ids(run: Run, jobs: Collection[Job]) -> set[str]:
    """Return the ids of the jobs that ``jobctl`` has submitted for the run.

    A run of an older version has no recorded ids. For it, a job counts if it was submitted at the same time
    as the run.
    """
    recorded = read_job_ids(run.path)
    if recorded:
        return recorded

    moment = submitted(run)
    return {array_of(job) for job in jobs if abs((job.submitted or 0) - moment) < SUBMISSION_SECONDS}


def needs_history(run: Run, queued: Sequence[Job]) -> bool:
    """Return whether neither the run's records nor its ``queued`` jobs say how the run ended."""
    return not queued and (recorded_status(run).state not in ENDED or _terminated(run))


def _terminated(run: Run) -> bool:
    """Return whether the last attempt knows only that Slurm killed it."""
    return run.last is not None and run.last.exit_code == EXIT_TERMINATED


def status_of(run: Run, jobs: Sequence[Job], now: float, failed: Status | None = None) -> Status:
    """Return the status of ``run``. ``jobs`` are its jobs in the queue or the accounts, oldest first.

    ``failed`` is a run that should end well before ``run`` starts, but did not.
    """
    recorded = recorded_status(run)
    active = [job for job in jobs if job.active]
    # A job that runs says more than one that waits.
    job = next((job for job in active if not job.waiting), active[0] if active else None)
    if job is not None:
        status = _of_active(run, recorded, job, now)
        rest = [other for other in active if other is not job]
        if status is recorded and rest:  # one that came after this one, which has just ended
            job = rest[0]
            rest = rest[1:]
            status = _of_active(run, recorded, job, now)

        return _replace(status, status.state, status.detail + _waiting(job, rest))

    # Check this before the recorded end: the attempt ended well, but nothing will start the next one.
    if recorded.state in ENDED and (lost := _lost_requeue(run)):
        return _replace(
            recorded, recorded.state, f"{_why(run, recorded)}, but {lost}; jobctl resume {run.name}"
        )

    if recorded.state in ENDED and not (_terminated(run) and jobs and jobs[-1].state in SLURM_ENDED_IT):
        return recorded

    return _of_none_active(run, recorded, jobs, now, failed)


def _of_none_active(
    run: Run, recorded: Status, jobs: Sequence[Job], now: float, failed: Status | None
) -> Status:
    """Return the status of a run without a recorded end, none of whose ``jobs`` is in the queue."""
    # Slurm removes such a job from the queue. Without accounts nothing else tells the reason.
    if failed and recorded.state == "submitted":
        words = f"never started: it had to wait for {failed.run}, which is {failed.state}"
        return _replace(
            recorded, "cancelled", f"{words}; jobctl resume {failed.run}, then jobctl resume {run.name}"
        )

    # The job has ended, but its record may not have reached us over the network file system.
    if jobs and _may_be_recorded(recorded, jobs[-1], now):
        return _replace(recorded, "running", f"{job_words(jobs[-1], now)}; waiting for its record")

    if jobs:
        return _of_ended(run, recorded, jobs[-1], now)

    # A job that was just submitted may not be in the queue yet. It is not lost.
    if recorded.state == "submitted" and now - submitted(run) < SUBMISSION_SECONDS:
        return recorded

    return _replace(recorded, "lost", f"Slurm no longer knows a job of this run; jobctl resume {run.name}")


def _may_be_recorded(recorded: Status, job: Job, now: float) -> bool:
    """Return whether the attempt of ``job`` may still record its end, or Slurm may start it again."""
    if recorded.state != "running" or recorded.job_id != job.id or job.state == "CANCELLED":
        return False

    # abs, because the clocks of two machines differ.
    return job.ended is not None and abs(now - job.ended) < RECORD_SECONDS


def _lost_requeue(run: Run) -> str:
    """Return the message of the last attempt, if it asked for a new start and Slurm did not accept."""
    if run.last is None:
        return ""

    try:
        text = read_regular(log_dir(run.path, run.last.attempt) / "requeue-lost")
    except OSError:  # the file is usually missing
        return ""

    return visible(text.decode("utf-8", "replace").strip())


def submitted(run: Run) -> float:
    """Return the time of the run's submission, or of its first attempt, in seconds since 1970.

    A job that came through a pipe writes its record itself, so its time is that of the record. Return 0 if
    nothing tells the time.
    """
    recorded = seconds_of(run.record.submitted or (run.attempts[0].start if run.attempts else ""))
    if recorded:
        return recorded

    try:
        return record_file(run.path, run.step).stat().st_mtime
    except OSError:  # it was removed meanwhile
        return 0.0


def _of_active(run: Run, recorded: Status, job: Job, now: float) -> Status:
    state: State = "pending" if job.waiting else "running"
    detail = job_words(job, now)
    # Slurm may still list a job whose script has recorded its end.
    ended = run.last is not None and run.last.job_id == job.id and recorded.state in ENDED
    ending = job.state == "COMPLETING"
    if ended and not (job.waiting or ending) and (job.started or 0) > (seconds_of(recorded.end) or 0):
        ended = False  # it runs again, and has not recorded its new attempt yet

    if ended and not job.waiting:
        if not _goes_on(run):
            return recorded  # Slurm is still clearing up

        detail = f"{_why(run, recorded)}; ending"
    elif ended and job.waiting:
        detail = f"requeued; {detail}"

    return Status(
        run=run.name,
        state=state,
        target=run.target,
        job_id=job.id,
        attempt=recorded.attempt,
        nodes=job.node_list,
        start="" if job.waiting else recorded.start,
        detail=detail,
    )


def _why(run: Run, recorded: Status) -> str:
    """Return the reason why the last attempt ended, if another attempt follows it."""
    if run.last is not None and run.last.reason == NODE_FAILURE:
        return "a node died"

    return "checkpointed" if recorded.state == "stopped" else recorded.state


def _waiting(job: Job, rest: Sequence[Job]) -> str:
    """Return the rest of the run in the queue: waiting tasks of the array of ``job``, and later jobs."""
    array = [job, *(other for other in rest if array_of(other) == array_of(job))]
    waiting = sum(task.tasks for task in array if task.waiting)
    total = sum(task.tasks for task in array)
    later = {array_of(other) for other in rest} - {array_of(job)}
    tasks = f"; {waiting} of {total} tasks waiting" if 0 < waiting < total else ""
    return tasks + (f"; then job {', '.join(sorted(later, key=int))}" if later else "")


def _goes_on(run: Run) -> bool:
    """Return whether another attempt of the same job will follow the last one."""
    last = run.last
    if last is None or state_of(last) == "stopped":
        return True

    retries = run.record.spec.resources.retries
    # Each task of an array has retries of its own.
    failures = sum(a.reason in RETRIED and a.task == last.task for a in run.attempts)
    return last.reason in RETRIED and failures <= retries


def _of_ended(run: Run, recorded: Status, job: Job, now: float) -> Status:
    """Return the status if the attempt could not write its end: it was killed, or never began."""
    state: State = "cancelled" if job.state == "CANCELLED" else "failed"
    detail = f"{job_words(job, now)}{_slurm_output(run.path)}; jobctl resume {run.name}"
    return msgspec.structs.replace(_replace(recorded, state, detail), job_id=job.id, nodes=job.node_list)


def _replace(status: Status, state: State, detail: str) -> Status:
    return msgspec.structs.replace(status, state=state, detail=detail)


def _slurm_output(run: Path) -> str:
    return f"; see {run / 'logs' / 'slurm.out'}"
