"""Run directories as a store: claim one, write its record once, read the records of its attempts.

No other database exists. The script that runs on the cluster writes ``attempts/<n>.json`` itself (see
``templates/shell/record.sh``). So it needs only a shell there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from jobctl.jobs import kinds
from jobctl.jobs.core import exit_codes, layout
from jobctl.jobs.core.durable import make_shared, write_whole
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.jobs.core.ownership import check_run
from jobctl.jobs.core.reading import read_regular
from jobctl.jobs.core.stamps import utc_stamp
from jobctl.jobs.kinds import JobKind
from jobctl.jobs.runs.edits import Edit
from jobctl.jobs.runs.records import Attempt, BadRun, RunRecord, read_attempts, read_record, with_edit
from jobctl.jobs.runs.revision import git_revision
from jobctl.jobs.spec.job_spec import JobSpec

NODE_FAILURE = "node failure"
"""The reason of an attempt that ended because one of its nodes died."""
ALLOCATION_ENDED = "allocation ended"
"""The reason of an attempt that ended because a user ended the allocation in which it ran."""
ENDED_BY_SCHEDULER = frozenset({"preempted", "requeued", NODE_FAILURE, ALLOCATION_ENDED})
"""Reasons of an end that the job itself did not cause. The job can continue in another attempt."""


class Run(msgspec.Struct, frozen=True):
    """A run directory as it was read: its record, and its attempts in order.

    It may also be a job on a checkpoint, called ``RUN:eval``, with separate attempts in that directory.
    """

    name: str
    path: Path
    record: RunRecord
    attempts: tuple[Attempt, ...]

    @property
    def step(self) -> str:
        """Return ``eval`` or ``export`` for a job on the run's checkpoint, or an empty text for the run."""
        return kinds.split_name(self.name)[1]

    @property
    def target(self) -> str:
        return self.record.spec.target

    @property
    def job_kind(self) -> JobKind:
        """Return the kind of the job. Raises UserError for a kind that this version does not have."""
        return kinds.job_kind(self.step) if self.step else self.record.spec.job_kind

    @property
    def last(self) -> Attempt | None:
        return self.attempts[-1] if self.attempts else None


State = Literal[
    "submitted", "pending", "running", "finished", "stopped", "failed", "cancelled", "lost", "unknown"
]
"""A ``stopped`` run can resume from a checkpoint. ``unknown`` means that the scheduler does not answer.

A ``lost`` run ended without a record, and its scheduler does not know it.
"""
ENDED: frozenset[State] = frozenset({"finished", "stopped", "failed", "cancelled", "lost"})


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The status of a run. ``detail`` is for people. ``blocked`` says why it waits for a user to act."""

    run: str
    state: State
    target: str
    job_id: str = ""
    attempt: int = 0
    nodes: str = ""
    exit_code: int | None = None
    start: str = ""
    end: str = ""
    detail: str = ""
    blocked: str = ""
    owner: str = ""


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """A submission that was made."""

    run: Run
    """The run, with the spec as it was submitted."""
    job_id: str
    new: bool = True
    """False if the same submission was made before, so that this one did nothing."""


def unknown_status(run: Run, problem: UserError) -> Status:
    """Return the status of a run whose scheduler or record does not answer."""
    return Status(run=run.name, state="unknown", target=run.target, detail=problem.message)


def recorded_status(run: Run) -> Status:
    """Return the status from the run's records. It is ``running`` until an attempt has recorded its end."""
    last = telling_attempt(run)
    if last is None:
        return Status(run=run.name, state="submitted", target=run.target)

    state = state_of(last)
    bad = bad_nodes(run, last.attempt) if state == "failed" or last.reason == NODE_FAILURE else {}
    ill = "".join(f"{node}: {reason}; " for node, reason in bad.items())
    details = {
        "failed": f"{ill}exit code {last.exit_code}; jobctl logs {run.name}",
        "stopped": f"{ill or 'checkpointed; '}jobctl resume {run.name}",
    }

    return Status(
        run=run.name,
        state=state,
        target=run.target,
        job_id=last.job_id,
        attempt=last.attempt,
        nodes=last.nodes,
        exit_code=last.exit_code,
        start=last.start,
        end=last.end or "",
        detail=details.get(state, ""),
    )


def bad_nodes(run: Run, attempt: int | None = None) -> dict[str, str]:
    """Return the nodes that an attempt found unfit, each with the reason. None means any attempt."""
    numbers = [attempt] if attempt else [a.attempt for a in read_attempts(run.path)]
    unfit: dict[str, str] = {}
    for number in numbers:
        try:
            text = read_regular(layout.bad_nodes_file(run.path, number)).decode("utf-8", "replace")
        except OSError:
            # No node was unfit, or the file is not a regular file.
            continue

        lines = (line.partition("\t") for line in text.splitlines())
        unfit |= {node: reason for node, _, reason in lines if node}

    return unfit


def unfinished_tasks(run: Run) -> list[int]:
    """Return the tasks of a started array that have not finished."""
    last = {a.task: a for a in run.attempts}
    count = max((a.tasks for a in run.attempts), default=1)
    return [task for task in range(count) if task not in last or state_of(last[task]) != "finished"]


def state_of(attempt: Attempt) -> State:
    if attempt.reason == "cancelled":
        return "cancelled"

    if attempt.reason in ENDED_BY_SCHEDULER:
        return "stopped"

    states: dict[int | None, State] = {
        None: "running",
        exit_codes.EXIT_FINISHED: "finished",
        exit_codes.EXIT_CONTINUE: "stopped",
    }

    return states.get(attempt.exit_code, "failed")


def telling_attempt(run: Run) -> Attempt | None:
    """Return the attempt whose state is the state of the run.

    It is the last attempt. But a success does not count while another task of an array failed or runs. Return
    None if tasks of an array have not begun and no other task is running or has failed. An attempt that was
    refused because another one was running does not count.
    """
    admitted = [a for a in run.attempts if a.reason != "busy"]
    last = {a.task: a for a in admitted or run.attempts}  # the newest of each task
    # A running task comes before a failed task: the run is not over. A sweep expects that some tasks fail.
    for states in ({"running"}, set() if _has_swept(last) else {"failed", "cancelled", "stopped"}):
        if candidates := [a for a in last.values() if state_of(a) in states]:
            return max(candidates, key=lambda a: a.attempt)

    finished = [a for a in (*last.values(), *run.attempts[-1:]) if state_of(a) == "finished"]
    newest = max(finished, key=lambda a: a.attempt, default=None)

    return newest if newest and len(last) == newest.tasks else None


def _has_swept(last: Mapping[int, Attempt]) -> bool:
    """Return whether one size of a sweep fitted. A sweep looks for the sizes that do not fit."""
    sweeps = {kind.name for kind in kinds.KINDS if kind.may_fail_in_part}
    return any(a.step in sweeps and state_of(a) == "finished" for a in last.values())


def claim(root: Path, name: str) -> Path:
    """Make a new run directory. If several callers use one name at once, exactly one of them gets it.

    Raises UserError if the name is taken or the root cannot be written.
    """
    path = layout.run_dir(root, name)
    try:
        make_shared(path.parent)
    except OSError as error:
        raise _unwritable(root, error) from None

    # mkdir succeeds for only one caller, on every file system. With a check before it, two could pass.
    try:
        path.mkdir()
    except FileExistsError:
        raise UserError(
            f"run '{name}' exists: {path}",
            hint=f"continue it: jobctl resume {name}; or choose another name: --run",
        ) from None
    except OSError as error:
        raise _unwritable(root, error) from None

    return path


def _unwritable(root: Path, error: OSError) -> UserError:
    return UserError(
        f"{root}: cannot be written: {error.strerror}", hint="set JOBCTL_ROOT to a folder of yours"
    )


def release(path: Path) -> None:
    """Undo a claim whose submission was refused."""
    shutil.rmtree(path, ignore_errors=True)


def write_submission(path: Path, spec: JobSpec, script: str) -> None:
    """Write ``script`` and ``run.json`` into a claimed run directory."""
    for folder in (path / "logs", path / "attempts"):
        folder.mkdir(parents=True, exist_ok=True)
    # The record comes last: a directory with a record is a run, and then its script must exist.
    write_whole(layout.script_file(path), script.encode())
    write_record(path, spec)


def write_record(path: Path, spec: JobSpec, step: str = "") -> None:
    """Write the record of a run, or of the ``step`` that reads its checkpoint."""
    record = json.loads(spec.record()) | {
        "submitted": utc_stamp(),
        "git_revision": git_revision(),
    }
    text = json.dumps(record, indent=1, sort_keys=True) + "\n"
    write_whole(layout.record_file(path, step), text.encode())


def write_edit(path: Path, edit: Edit, step: str = "") -> None:
    """Add ``edit`` to the record of a run, or of the ``step`` that reads its checkpoint."""
    file = layout.record_file(path, step)
    write_whole(file, with_edit(read_regular(file).decode(), edit).encode())


def _is_of(attempt: Attempt, step: str) -> bool:
    """Return whether the attempt is at ``step``. An empty ``step`` means the work of the run itself."""
    return attempt.step == step if step else attempt.step not in kinds.ON_A_CHECKPOINT


def numbers_of_others(path: Path, step: str) -> set[int]:
    """Return the numbers of attempts at other steps than ``step``, such as evaluations beside a training."""
    return {attempt.attempt for attempt in read_attempts(path) if not _is_of(attempt, step)}


def read(root: Path, name: str) -> Run:
    """Return the run ``name``, or the job on a checkpoint. Raises UserError with the nearest name."""
    run_name, step = kinds.split_name(name)
    path = layout.run_dir(root, run_name)
    if not layout.RUN_NAME.fullmatch(run_name) or not path.is_dir():
        known = [p.name for p in layout.runs(root).iterdir()] if layout.runs(root).is_dir() else []
        hint = nearest(run_name, known) if known else f"{root} has no runs yet; is JOBCTL_ROOT right?"
        raise UserError(f"no run '{run_name}' in {layout.runs(root)}; {hint}", hint="jobctl list")

    if name != run_name and step not in steps_on(path):
        hint = f"jobctl submit {step} --run {run_name}" if step in kinds.ON_A_CHECKPOINT else "jobctl list"
        raise UserError(f"run '{run_name}' has no {step or 'step without a name'}", hint=hint)

    return read_folder(path, step)


def steps_on(path: Path) -> list[str]:
    """Return the steps on a run's checkpoint that have begun or were submitted."""
    done = {attempt.step for attempt in read_attempts(path)}
    return [s for s in kinds.ON_A_CHECKPOINT if s in done or layout.script_file(path, s).is_file()]


def is_submitted(root: Path, name: str) -> bool:
    """Return whether a run or a job on its checkpoint has a record. Raises BadRun for a private directory."""
    run_name, step = kinds.split_name(name)
    path = layout.run_dir(root, run_name)
    try:
        recorded = layout.record_file(path).is_file()
    except OSError as error:
        raise BadRun(path, error.strerror or str(error)) from None

    return recorded and (not step or step in steps_on(path))


def read_folder(path: Path, step: str = "") -> Run:
    """Return the run of a directory, in any root. Raises BadRun."""
    file = layout.record_file(path, step)
    has_own_record = bool(step) and file.is_file()
    record = read_record(file if has_own_record else layout.record_file(path))
    if step and not has_own_record:
        record = msgspec.structs.replace(record, submitted=_submitted(path, step))

    attempts = tuple(attempt for attempt in read_attempts(path) if _is_of(attempt, step))

    return Run(kinds.job_name(path.name, step), path, record, attempts)


def _submitted(path: Path, step: str) -> str:
    """Return the time when jobctl submitted a job on the run's checkpoint, or "" if it did not."""
    script = layout.script_file(path, step)
    if not script.is_file():
        return ""
    return utc_stamp(script.stat().st_mtime)


def read_again(run: Run) -> Run:
    """Return ``run`` with the present content of its directory."""
    return read(run.path.parent.parent, run.name)


def read_all(root: Path, tell: Callable[[str], None] = lambda reason: None) -> list[Run]:
    """Return every run with a record, and the jobs on its checkpoint, the newest submission last.

    Leave out a run that cannot be read, and give ``tell`` the reason. It may be private.
    """
    readable: list[Run] = []
    for path in _run_dirs(layout.runs(root)):
        try:
            readable += _with_steps(path)
        except BadRun as error:
            tell(error.message)
        except OSError as error:
            tell(f"{path}: {error.strerror}")

    # A script that was started by hand has no time of submission.
    return sorted(readable, key=lambda run: (run.record.submitted or _started(run), run.name))


def _run_dirs(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if layout.RUN_NAME.fullmatch(path.name))
    except FileNotFoundError:
        return []


def _with_steps(path: Path) -> list[Run]:
    """Return a run and the jobs on its checkpoint. Return nothing for a file or an unfinished submission."""
    try:
        names = os.listdir(path)  # raises an error for a private folder, unlike is_file
    except NotADirectoryError:
        return []

    if layout.record_file(path).name not in names:
        return []

    return [read_folder(path, step) for step in ("", *steps_on(path))]


def _started(run: Run) -> str:
    return run.attempts[0].start if run.attempts else ""


def check_writable(run: Path) -> None:
    """Raise UserError for the run of another user."""
    if not os.access(run, os.W_OK):
        raise UserError(f"run '{run.name}' belongs to {_owner(run)}, so you cannot change it", code=1)


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:  # no such user on this machine
        return f"user {path.stat().st_uid}"


def check_ours(run: Path, trusted: Sequence[str] = ()) -> None:
    """Raise UserError for a run that another user made or can change, unless its owner is in ``trusted``."""
    check_writable(run)
    check_run(run, run.parent.parent, trusted)


def request_stop(run: Path, reason: str, step: str = "") -> None:
    """Create STOP, to make the trainer checkpoint and exit with 200. Raises UserError for another's run."""
    check_writable(run)
    write_whole(layout.stop_file(run, step), f"{reason}\n".encode())
