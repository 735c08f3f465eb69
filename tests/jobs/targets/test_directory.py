"""The run store of a root: what it starts, keeps and copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.store import Run, Status
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.targets.directory import DirectoryStore

Job = Callable[..., JobSpec]


class Scheduler:
    """A target that starts nothing: it notes what it was asked for, or refuses."""

    def __init__(self, refusal: str = "") -> None:
        self.submitted: list[tuple[str, str, tuple[str, ...]]] = []
        self._refusal = refusal

    def render(self, spec: JobSpec) -> str:
        return f"script of {spec.name}\n"

    def submit(self, run: Run, script: Path, after: Sequence[str] = ()) -> str:
        if self._refusal:
            raise UserError(self._refusal)
        self.submitted.append((run.name, script.read_text(), tuple(after)))
        return "7"

    def statuses(self, runs_: Sequence[Run]) -> list[Status]:
        return [Status(run=run.name, state="failed", target=run.target) for run in runs_]

    def cancel(self, run: Run) -> None:
        raise AssertionError("nothing runs")

    def logs(self, run: Run, *, rank: int | None, attempt: int | None, follow: bool) -> Iterator[str]:
        return iter(())


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler()


@pytest.fixture
def store(root: Path, scheduler: Scheduler) -> DirectoryStore:
    return DirectoryStore(root, scheduler)


def test_a_started_run_is_found_with_its_spec(store: DirectoryStore, scheduler: Scheduler, job: Job) -> None:
    spec = job("true")
    started = store.start(spec)
    assert (started.job_id, started.new) == ("7", True)
    assert scheduler.submitted == [("r", "script of r\n", ())]
    run = store.find("r")
    assert run is not None
    assert run.record.spec == spec
    assert [other.name for other in store.find_all()] == ["r"]
    assert store.location(run) == str(run.path)


def test_what_was_never_submitted_is_not_found(store: DirectoryStore, job: Job) -> None:
    assert store.find("r") is None
    assert store.state(job("true")) is None
    assert store.find_all() == []


def test_a_refused_submission_leaves_nothing(root: Path, job: Job) -> None:
    store = DirectoryStore(root, Scheduler(refusal="no such partition"))
    with pytest.raises(UserError, match="no such partition"):
        store.start(job("true"))
    assert list((root / "runs").iterdir()) == []


def test_a_refused_job_on_a_checkpoint_leaves_the_run(root: Path, store: DirectoryStore, job: Job) -> None:
    run = store.start(job("true")).run
    refusing = DirectoryStore(root, Scheduler(refusal="no"))
    with pytest.raises(UserError, match="no"):
        refusing.start(job("true", kind="eval"))
    assert not (run.path / "script.eval").exists()
    assert store.find("r") is not None


def test_a_job_on_a_checkpoint_shares_the_directory(
    store: DirectoryStore, scheduler: Scheduler, job: Job
) -> None:
    training = store.start(job("true")).run
    evaluation = store.start(job("true", kind="eval")).run
    assert evaluation.name == "r:eval"
    assert evaluation.path == training.path
    assert scheduler.submitted[-1] == ("r:eval", "script of r:eval\n", ())


def test_a_resumption_submits_the_script_again(store: DirectoryStore, scheduler: Scheduler, job: Job) -> None:
    run = store.start(job("true")).run
    assert store.resume(run) == "7"
    assert scheduler.submitted == [("r", "script of r\n", ())] * 2


def test_one_of_two_resumptions_is_refused(store: DirectoryStore, job: Job) -> None:
    run = store.start(job("true")).run
    (run.path / "attempts/.resuming").mkdir()
    with pytest.raises(UserError, match="is being resumed by someone else"):
        store.resume(run)


def test_stop_is_created_in_the_run_directory(store: DirectoryStore, job: Job) -> None:
    run = store.start(job("true")).run
    store.request_stop(run)
    assert (run.path / "STOP").read_text() == "cancel\n"


def test_a_copy_has_every_file(store: DirectoryStore, job: Job, tmp_path: Path) -> None:
    run = store.start(job("true")).run
    counts = store.collect(run, tmp_path / "copy")
    assert counts == {"files": 2, "copied": 2, "skipped": 0}
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["run.json", "script"]
    with pytest.raises(UserError, match="is in the run directory itself"):
        store.collect(run, run.path)


def test_the_state_is_the_records(store: DirectoryStore, job: Job) -> None:
    run = store.start(job("true")).run
    assert store.state(job("true")) == "submitted"
    (run.path / "attempts/1.json").write_text(
        '{"attempt": 1, "job_id": "7", "target": "local", "host": "h", "nodes": "h", "pid": 1,'
        ' "start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:01:00Z", "exit_code": 0, "reason": "finished"}'
    )
    assert store.state(job("true")) == "finished"
    assert runs.recorded_status(runs.read_again(run)).state == "finished"
