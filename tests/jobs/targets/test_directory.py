"""The run store of a root: what it starts, keeps and copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.edits import Edit
from jobctl.jobs.runs.store import Run, Status
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.targets.directory import DirectoryStore

Job = Callable[..., JobSpec]


class Scheduler:
    """A target that starts nothing: it notes what it was asked for, or refuses."""

    def __init__(self, refusal: str = "") -> None:
        self.submitted: list[tuple[str, str, tuple[str, ...]]] = []
        self.records: list[str] = []
        """The record as each job would find it, if it began at once."""
        self.state: runs.State = "failed"
        self._refusal = refusal

    def render(self, spec: JobSpec) -> str:
        return f"script of {spec.name}\n"

    def submit(self, run: Run, script: Path, after: Sequence[str] = ()) -> str:
        self.records.append(layout.record_file(run.path, run.step).read_text())
        if self._refusal == "Ctrl-C":
            raise KeyboardInterrupt
        if self._refusal:
            raise UserError(self._refusal)
        self.submitted.append((run.name, script.read_text(), tuple(after)))
        return "7"

    def statuses(self, runs_: Sequence[Run]) -> list[Status]:
        return [Status(run=run.name, state=self.state, target=run.target) for run in runs_]

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
    with pytest.raises(UserError, match="another process is resuming run"):
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
    with pytest.raises(UserError, match="is inside the run directory"):
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


def test_ctrl_c_during_a_submission_frees_the_name(root: Path, store: DirectoryStore, job: Job) -> None:
    with pytest.raises(KeyboardInterrupt):
        DirectoryStore(root, Scheduler(refusal="Ctrl-C")).start(job("true"))
    assert list((root / "runs").iterdir()) == []
    assert store.start(job("true")).job_id == "7"


def test_a_job_finds_its_record_though_it_begins_at_once(
    store: DirectoryStore, scheduler: Scheduler, job: Job
) -> None:
    store.start(job("true"))
    store.start(job("true", kind="eval"))
    assert [record != "" for record in scheduler.records] == [True, True]


def test_the_name_of_a_run_that_exists_is_taken_and_the_run_stays(store: DirectoryStore, job: Job) -> None:
    run = store.start(job("true")).run
    with pytest.raises(UserError, match="run 'r' exists"):
        store.start(job("true"))
    assert store.find("r") == run


def test_a_refused_second_evaluation_leaves_the_files_of_the_first(
    root: Path, store: DirectoryStore, job: Job
) -> None:
    run = store.start(job("true")).run
    store.start(job("true", kind="eval"))
    with pytest.raises(UserError, match="no"):
        DirectoryStore(root, Scheduler(refusal="no")).start(job("true", kind="eval"))
    assert (run.path / "script.eval").exists()
    assert (run.path / "run.eval.json").exists()


def test_a_refused_first_evaluation_leaves_no_record_of_it(
    root: Path, store: DirectoryStore, job: Job
) -> None:
    run = store.start(job("true")).run
    before = sorted(path.name for path in run.path.iterdir())
    for refusal in ("no", "Ctrl-C"):
        with pytest.raises((UserError, KeyboardInterrupt)):
            DirectoryStore(root, Scheduler(refusal=refusal)).start(job("true", kind="eval"))
        assert sorted(path.name for path in run.path.iterdir()) == before


@pytest.mark.parametrize("refusal", ["no", "Ctrl-C"])
def test_a_resumption_that_failed_can_be_tried_again(
    root: Path, store: DirectoryStore, job: Job, refusal: str
) -> None:
    run = store.start(job("true")).run
    with pytest.raises((UserError, KeyboardInterrupt)):
        DirectoryStore(root, Scheduler(refusal=refusal)).resume(run)
    assert not (run.path / "attempts" / ".resuming").exists()
    assert store.resume(run) == "7"


@pytest.mark.parametrize("state", ["submitted", "pending", "running", "unknown"])
def test_a_run_that_goes_on_is_not_started_twice(
    store: DirectoryStore, scheduler: Scheduler, job: Job, state: runs.State
) -> None:
    run = store.start(job("true")).run
    scheduler.state = state
    with pytest.raises(UserError, match="another process is resuming run"):
        store.resume(run)
    assert len(scheduler.submitted) == 1


def test_a_run_that_another_user_resumed_and_ended_meanwhile_is_looked_at_again(
    store: DirectoryStore, scheduler: Scheduler, job: Job
) -> None:
    run = store.start(job("true")).run
    write_attempt(run.path)
    with pytest.raises(UserError, match="another process is resuming run"):
        store.resume(run)
    assert len(scheduler.submitted) == 1
    assert store.resume(runs.read_again(run)) == "7"


def write_attempt(path: Path, number: int = 1, code: int = 1, **facts: object) -> None:
    record = {
        "attempt": number, "job_id": "7", "target": "local", "host": "h", "nodes": "h", "pid": 1,
        "start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:01:00Z", "exit_code": code,
    }  # fmt: skip
    (path / f"attempts/{number}.json").write_bytes(msgspec.json.encode(record | facts))


LONGER = Edit(settings={"max_iters": 77}, time="2026-01-01T00:00:00Z", after_attempt=0)


def test_an_edit_is_recorded_before_its_attempt_begins(
    store: DirectoryStore, scheduler: Scheduler, job: Job
) -> None:
    run = store.start(job("true")).run
    store.resume(run, edit=LONGER)
    assert [LONGER.time in record for record in scheduler.records] == [False, True]
    assert runs.read_again(run).record.edits == (LONGER,)


def test_a_script_that_cannot_be_rendered_leaves_no_edit(
    store: DirectoryStore, scheduler: Scheduler, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = store.start(job("true")).run

    def refused(spec: JobSpec) -> str:
        raise UserError("too many nodes")

    monkeypatch.setattr(scheduler, "render", refused)
    with pytest.raises(UserError, match="too many nodes"):
        store.resume(run, edit=LONGER)
    assert runs.read_again(run).record.edits == ()
    assert layout.script_file(run.path).read_text() == "script of r\n"


def test_a_resumption_does_not_run_what_another_user_wrote_into_the_script(
    store: DirectoryStore, scheduler: Scheduler, job: Job
) -> None:
    run = store.start(job("true")).run
    layout.script_file(run.path).write_text("rm -r ~\n")
    store.resume(run)
    assert scheduler.submitted[-1][1] == "script of r\n"


def test_a_copy_names_the_first_files_that_it_leaves_out_and_counts_the_others(
    store: DirectoryStore, job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = store.start(job("true")).run
    for number in range(7):
        (run.path / f"link-{number}").symlink_to("run.json")
    assert store.collect(run, tmp_path / "copy")["skipped"] == 7
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 6
    assert notes[0] == "jobctl: note: skipped: 'link-0': a symbolic link"
    assert notes[-1] == "jobctl: note: skipped: 2 more"


def test_a_copy_to_a_place_that_cannot_be_written_is_said_with_its_path(
    store: DirectoryStore, job: Job, tmp_path: Path
) -> None:
    run = store.start(job("true")).run
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"file/copy: (Not a directory|File exists)") as refused:
        store.collect(run, tmp_path / "file" / "copy")
    assert refused.value.code == 1


def test_a_link_into_the_run_directory_is_no_place_for_its_copy(
    store: DirectoryStore, job: Job, tmp_path: Path
) -> None:
    run = store.start(job("true")).run
    (tmp_path / "elsewhere").symlink_to(run.path / "logs")
    with pytest.raises(UserError, match="is inside the run directory"):
        store.collect(run, tmp_path / "elsewhere")


def test_a_run_waits_for_the_same_runs_when_it_is_resumed_and_its_evaluation_for_none(
    store: DirectoryStore, scheduler: Scheduler, job: Job
) -> None:
    run = store.start(msgspec.structs.replace(job("true"), after=("before",))).run
    evaluation = store.start(msgspec.structs.replace(job("true", kind="eval"), after=("r",))).run
    store.resume(run)
    store.resume(evaluation)
    assert [(name, after) for name, _, after in scheduler.submitted] == [
        ("r", ("before",)),
        ("r:eval", ("r",)),
        ("r", ("before",)),
        ("r:eval", ()),
    ]


def test_an_evaluation_without_a_record_of_its_own_is_not_resumed_as_the_training(
    store: DirectoryStore, scheduler: Scheduler, job: Job
) -> None:
    store.start(job("true"))
    evaluation = store.start(job("true", kind="eval")).run
    layout.record_file(evaluation.path, "eval").unlink()
    with pytest.raises(UserError, match="r:eval has no record to resume from") as refused:
        store.resume(evaluation)
    assert refused.value.code == 1
    assert len(scheduler.submitted) == 2


def test_a_sweep_of_which_one_task_failed_is_no_finished_step_of_a_pipeline(
    store: DirectoryStore, job: Job
) -> None:
    run = store.start(job("true")).run
    write_attempt(run.path, 1, code=0, reason="finished", task=0, tasks=2, step="sweep")
    write_attempt(run.path, 2, code=1, reason="failed", task=1, tasks=2, step="sweep")
    assert runs.recorded_status(runs.read_again(run)).state == "finished"
    assert store.state(job("true")) == "failed"
