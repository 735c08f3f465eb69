"""Slurm as a target of jobctl."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from jobctl.jobs.catalog.schema import Resources, Site
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.cancelled import mark_cancelled
from jobctl.jobs.runs.logs import read_logs
from jobctl.jobs.runs.store import Run, Status, read_again, recorded_status, unknown_status
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.targets.protocol import Examination, Survey
from jobctl.slurm import script as sbatch_script
from jobctl.slurm.client import Slurm, SlurmRefused, SlurmSilent
from jobctl.slurm.directives import literal_path
from jobctl.slurm.hints import NEVER_STARTS
from jobctl.slurm.job_ids import record_job_id
from jobctl.slurm.jobs import Job
from jobctl.slurm.reasons import UNDECIDED, waiting_words
from jobctl.slurm.status import comment_of, jobs_of, needs_history, status_of, submitted

QUEUE_SECONDS = 3.0
"""Seconds for which an answer of squeue is reused. Commands ask often, and one controller serves all."""

LOOK_SECONDS = 15.0
"""Seconds that a cluster may take to answer before its runs are unknown. A person waits for the list."""

FIRST_LOOKS = 8
FIRST_LOOK_SECONDS = 0.2
"""The number of looks at a new job, and the seconds between two. They end once the scheduler has looked."""


def slurm_output(run: Path) -> Path:
    """Return the file for Slurm's output: the script's lines before its attempt, and why it was ended."""
    return run / "logs" / "slurm.out"


class _Queue(msgspec.Struct, frozen=True):
    """The answer of a cluster's squeue about the jobs of some users, valid for a while."""

    jobs: list[Job]
    users: frozenset[int]
    until: float


class SlurmTarget:
    """Find a run's jobs by name and comment, so that only the run's directory is needed."""

    def __init__(self, client: Slurm | None = None, clock: Callable[[], float] = time.time) -> None:
        self._client = client or Slurm()
        self._clock = clock
        self._queues: dict[str, _Queue] = {}

    def render(self, spec: JobSpec) -> str:
        return sbatch_script.render(spec)

    def submit(self, run: Run, script: Path, after: Sequence[str] = ()) -> str:
        """Submit the run. Raises UserError if Slurm refuses, it has a job, or one of ``after`` failed."""
        run = _resolved(run)
        # Check this first. jobctl's commands do not see these variables, and would ask another cluster than
        # the user means.
        _refuse_a_cluster_by_chance(run)
        # Another user may have submitted the run since the last answer.
        self._forget_queue()
        active = [job.id for job in self._jobs(run) if job.active]
        if active:
            raise UserError(
                f"run '{run.name}' already has job {active[-1]}", hint=f"jobctl status {run.name}", code=1
            )

        text = script.read_text(encoding="utf-8")
        job = self._of(run).submit(
            text, name=run.name, comment=comment_of(run), options=self._options(run, after)
        )
        # Record it at once: accounts may keep no comment, and then only this id shows whose job it is.
        record_job_id(run.path, job)
        self._forget_queue()
        # Slurm accepts some jobs that it will never start. Only the queue says so.
        self._refuse_what_never_starts(run, job)

        return job

    def _options(self, run: Run, after: Sequence[str]) -> list[str]:
        """Return sbatch's options that the script itself does not have."""
        options = [f"--output={literal_path(str(slurm_output(run.path)))}", "--open-mode=append"]
        if avoided := ",".join(filter(None, (run.record.spec.site.exclude, *runs.bad_nodes(run)))):
            options.append(f"--exclude={avoided}")

        # Tasks that have finished are left out, so that a resumed array does not repeat them.
        options += _array(run)
        if dependency := self._dependency(run, after):
            options.append(f"--dependency={dependency}")

        return options

    def survey(self, site: Site) -> Survey:
        """Return the cluster's names for a site file."""
        from jobctl.slurm.survey import survey

        return survey(self._client.of(site.slurm.cluster).answer, site.slurm.cluster)

    def examine(self, site: Site, resources: Resources) -> Examination:
        """Return the problems of this machine as a place to submit from."""
        from jobctl.slurm.diagnosis import examine

        return examine(site, self._client.of(site.slurm.cluster).answer)

    def statuses(self, runs: Sequence[Run]) -> list[Status]:
        """Call squeue once for each cluster. Call sacct once if neither it nor the records know an end."""
        runs = [_resolved(run) for run in runs]
        clusters = sorted({_cluster(run) for run in runs})
        found: dict[str, Status] = {}
        for cluster in clusters:
            group = [run for run in runs if _cluster(run) == cluster]
            client = self._client.of(cluster, patience=LOOK_SECONDS)
            try:
                found |= self._statuses_on(client, cluster, group)
            except UserError as error:
                # The caller handles the case in which no status is known.
                if len(clusters) == 1:
                    raise

                found |= {run.name: unknown_status(run, error) for run in group}

        return [found[run.name] for run in runs]

    def _statuses_on(self, client: Slurm, cluster: str, runs: Sequence[Run]) -> dict[str, Status]:
        owners = {run.name: _owner(run) for run in runs}
        users = frozenset(owner for owner in owners.values() if owner is not None)
        # Ask the queue first: sacct is asked only about runs that the queue does not know.
        queue = self._queued(client, cluster, users)
        now = self._clock()
        known = {run.name: _jobs_among(run, queue) for run in runs}
        unknown = [run for run in runs if _needs_history(run, known[run.name])]
        if unknown:
            # One run with an unknown time must not hide the history of all others.
            times = [moment for moment in (submitted(run) for run in unknown) if moment]
            # A second earlier, because Slurm counts in whole seconds.
            history = client.history(min(times, default=now) - 1, users)
            known |= {run.name: _jobs_among(run, history) for run in unknown}

        return {run.name: _status_of(run, known[run.name], now) for run in runs}

    def cancel(self, run: Run) -> None:
        run = _resolved(run)
        ended = self._end(run)
        # A job that waited has no script that could record the cancellation.
        if ended and all(job.waiting for job in ended) and not run.step:
            mark_cancelled(run.path)

    def _end(self, run: Run) -> list[Job]:
        """End the jobs of a run. Return those that waited or ran."""
        self._forget_queue()
        active = [job for job in self._jobs(run) if job.active]
        if not all(job.waiting for job in active):
            # A trainer that still saves a checkpoint exits with 200. STOP tells the script not to continue.
            with contextlib.suppress(OSError, UserError):
                runs.request_stop(run.path, "cancel", run.step)

        try:
            # After STOP: the signal may end the trainer at once, and the script then reads STOP.
            self._of(run).cancel([job.id for job in active])
        except SlurmRefused:
            # Slurm comes first, because it lets an operator cancel the jobs of others.
            runs.check_writable(run.path)
            raise

        self._forget_queue()
        return active

    def logs(self, run: Run, *, rank: int | None, attempt: int | None, follow: bool) -> Iterator[str]:
        def ended() -> bool:
            try:
                (status,) = self.statuses([read_again(run)])
            except SlurmSilent:
                # The file still grows, and the controller will answer again.
                return False

            return status.state in runs.ENDED

        return read_logs(run.path, rank=rank, attempt=attempt, follow=follow, ended=ended, step=run.step)

    # ---- the queue

    def _of(self, run: Run) -> Slurm:
        return self._client.of(_cluster(run))

    def _jobs(self, run: Run) -> list[Job]:
        owner = _owner(run)
        users = frozenset() if owner is None else frozenset([owner])
        return jobs_of(run, self._queued(self._of(run), _cluster(run), users))

    def _queued(self, client: Slurm, cluster: str, users: frozenset[int]) -> list[Job]:
        if not users:
            return []

        queue = self._queues.get(cluster)
        # One answer serves all runs of these users, so a list of runs asks once.
        if queue is None or not users <= queue.users or time.monotonic() > queue.until:
            queue = _Queue(client.queue(users), users, time.monotonic() + QUEUE_SECONDS)
            self._queues[cluster] = queue

        return queue.jobs

    def _forget_queue(self) -> None:
        self._queues.clear()

    def _refuse_what_never_starts(self, run: Run, job: str) -> None:
        # Slurm looks at a new job only some seconds after sbatch.
        for _ in range(FIRST_LOOKS):
            queued = next(iter(self._of(run).job(job)), None)
            if queued is None or not queued.active or not queued.waiting or queued.reason not in UNDECIDED:
                break

            time.sleep(FIRST_LOOK_SECONDS)

        if queued is None or queued.reason not in NEVER_STARTS:
            return

        # Otherwise it would stay in the queue, although the user sees a refusal.
        if queued.active:
            self._end(_resolved(run))

        raise UserError(
            f"Slurm accepted job {job}, but {waiting_words(queued.reason)}",
            hint=NEVER_STARTS[queued.reason].value,
            code=1,
        )

    def _dependency(self, run: Run, after: Sequence[str]) -> str:
        """Return ``--dependency`` of a new job: the runs that it comes after, and an older job of its name.

        The latter, ``singleton``, prevents two resumptions at once from working together on one directory.
        """
        conditions = ["singleton"] if run.attempts else []
        root = run.path.parent.parent
        for name in after:
            parent = _resolved(runs.read(root, name))
            (status,) = self.statuses([parent])
            if status.state in ("pending", "running"):
                _refuse_another_cluster(run, parent)
                # For an array, use the id of all its tasks: each of them must have finished.
                conditions.append(f"afterok:{status.job_id.partition('_')[0]}")
            elif status.state != "finished":
                code = "" if status.exit_code is None else f": exit code {status.exit_code}"
                raise UserError(
                    f"run '{run.name}' must start after '{name}', which is {status.state}{code}",
                    hint=f"jobctl resume {name}",
                    code=1,
                )

        return ",".join(conditions)


def _array(run: Run) -> list[str]:
    """For a resumed array, return the option with only the tasks that have not finished."""
    last = run.last
    if last is None or last.tasks == 1:
        return []

    # sbatch's --array replaces the directive of the script, including its limit.
    limit = run.record.spec.resources.array_limit
    tasks = ",".join(str(task) for task in runs.unfinished_tasks(run))
    return [f"--array={tasks}{f'%{limit}' if limit else ''}"]


def _cluster(run: Run) -> str:
    """Return the cluster of the run's jobs. Empty: this machine's cluster, or an unusable record."""
    try:
        return run.record.spec.site.slurm.cluster
    except UserError:
        return ""


def _refuse_a_cluster_by_chance(run: Run) -> None:
    """Raise UserError if only the environment names the cluster. Nobody could find the job without it."""
    chosen = os.environ.get("SLURM_CLUSTERS") or os.environ.get("SBATCH_CLUSTERS")
    if chosen and not _cluster(run):
        raise UserError(
            f"SLURM_CLUSTERS or SBATCH_CLUSTERS is {chosen}, but the run does not name its cluster",
            hint="slurm.cluster: NAME in the site file, --set slurm.cluster=NAME, or unset the variable",
        )


def _refuse_another_cluster(run: Run, parent: Run) -> None:
    """Raise UserError if ``run`` would have to wait for a job of another cluster."""
    if _cluster(run) != _cluster(parent):
        where = _cluster(parent) or "this machine's cluster"
        raise UserError(
            f"run '{run.name}' must start after '{parent.name}', a job of {where}, but a job cannot wait for a job "
            "of another cluster",
            hint=f"jobctl wait {parent.name}, and then submit",
        )


def _resolved(run: Run) -> Run:
    """Return the run with the real path of its directory, which every caller uses, whatever links exist."""
    return msgspec.structs.replace(run, path=run.path.resolve())


def _with_last_words(run: Run) -> Run:
    """Read the run again if it has no job. Its attempt may have ended after the first reading."""
    return run if recorded_status(run).state == "finished" else _resolved(read_again(run))


def _status_of(run: Run, jobs: Sequence[Job], now: float) -> Status:
    try:
        if any(job.active for job in jobs):
            return status_of(run, jobs, now)

        return status_of(_with_last_words(run), jobs, now, _failed_before(run))
    except UserError as error:  # it has become unreadable, which hides none of the others
        return unknown_status(run, error)


def _failed_before(run: Run) -> Status | None:
    """Return the run that kept ``run`` from starting: the first before it that did not end well."""
    if run.attempts:
        return None

    for name in run.record.spec.after:
        with contextlib.suppress(UserError):  # its directory has been removed
            before = runs.read(run.path.parent.parent, name)
            status = recorded_status(before)
            if status.state in runs.ENDED and status.state != "finished":
                return status

            if status.state == "submitted" and (further := _failed_before(before)):
                return further

    return None


def _jobs_among(run: Run, jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs of the run, or none if its record cannot be used. Such a run hides no other run."""
    try:
        return jobs_of(run, jobs)
    except UserError:
        return []


def _needs_history(run: Run, queued: Sequence[Job]) -> bool:
    try:
        return needs_history(run, queued)
    except (UserError, OSError):
        return False


def _owner(run: Run) -> int | None:
    """Return the user whose jobs work on the run, or None if its directory was removed meanwhile."""
    try:
        return run.path.stat().st_uid
    except OSError:
        return None


TARGET = SlurmTarget()
