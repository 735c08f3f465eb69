"""Run directories: claimed once, written whole, read back with their attempts."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as runs
from jobctl.jobs.spec.job_spec import JobSpec
from tests.other_user import as_other, told_by_other

Job = Callable[..., JobSpec]


def attempt(run: Path, number: int, **facts: object) -> None:
    record = {
        "attempt": number, "job_id": "7", "target": "local", "host": "h", "nodes": "h", "pid": 1,
        "start": "2026-01-01T00:00:00Z", "end": None, "exit_code": None, "reason": None,
    }  # fmt: skip
    layout.attempt_file(run, number).write_text(json.dumps(record | facts))


def test_one_of_many_claims_of_a_name_wins(root: Path) -> None:
    def claim(_: int) -> bool:
        try:
            runs.claim(root, "r")
        except UserError as error:
            return "jobctl resume r" not in str(error)
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(claim, range(64))) == 1


def test_a_root_that_cannot_be_written_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        runs.claim(tmp_path / "file", "r")


def test_a_submission_is_written_and_read_back(root: Path, job: Job) -> None:
    spec = job("true")
    path = runs.claim(root, "r")
    runs.write_submission(path, spec, "#!/bin/bash\n")
    run = runs.read(root, "r")
    assert run.target == "local"
    assert run.record.spec == spec
    assert run.record.spec_hash == spec.fingerprint()
    assert layout.script_file(path).read_text() == "#!/bin/bash\n"
    assert runs.recorded_status(run).state == "submitted"


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({}, "running"),
        ({"exit_code": 0, "reason": "finished"}, "finished"),
        ({"exit_code": 200, "reason": "stopped"}, "stopped"),
        ({"exit_code": 200, "reason": "cancelled"}, "cancelled"),
        ({"exit_code": 2, "reason": "configuration"}, "failed"),
        ({"exit_code": 137, "reason": "failed"}, "failed"),
    ],
)
def test_the_last_attempt_says_where_a_run_stands(
    root: Path, job: Job, facts: dict[str, object], state: str
) -> None:
    path = runs.claim(root, "r")
    runs.write_submission(path, job("true"), "")
    attempt(path, 2, exit_code=1, reason="failed")
    attempt(path, 10, **facts)
    run = runs.read(root, "r")
    assert [a.attempt for a in run.attempts] == [2, 10]
    assert runs.recorded_status(run).state == state


def test_an_unknown_run_names_the_nearest_and_the_folder(root: Path, job: Job) -> None:
    with pytest.raises(UserError, match="has no runs yet"):
        runs.read(root, "r")
    runs.write_submission(runs.claim(root, "qwen3-a"), job("true"), "")
    with pytest.raises(UserError, match="did you mean 'qwen3-a'"):
        runs.read(root, "qwen3-b")
    with pytest.raises(UserError, match="no run"):
        runs.read(root, "../qwen3-a")


def test_a_claim_that_never_became_a_submission_is_said_and_not_listed(root: Path) -> None:
    runs.claim(root, "r")
    assert runs.read_all(root) == []
    with pytest.raises(UserError, match="its submission did not finish"):
        runs.read(root, "r")


def test_a_record_that_is_not_json_is_a_message(root: Path) -> None:
    layout.record_file(runs.claim(root, "r")).write_text("{")
    with pytest.raises(UserError, match=r"run\.json"):
        runs.read(root, "r")


def told(root: Path, job: Job, *attempts: dict[str, object]) -> tuple[str, int]:
    """State and attempt of a run whose attempts say this."""
    path = runs.claim(root, "r")
    runs.write_submission(path, job("true"), "")
    for number, facts in enumerate(attempts, 1):
        attempt(path, number, **{"end": "2026-01-01T00:00:01Z", **facts})
    status = runs.recorded_status(runs.read(root, "r"))
    return status.state, status.attempt


OK = {"exit_code": 0}
FAILED = {"exit_code": 1}
AT_WORK = {"exit_code": None}


@pytest.mark.parametrize(
    ("attempts", "state", "number"),
    [
        ([AT_WORK, {**OK, "step": "eval"}], "running", 1),
        ([FAILED, {**AT_WORK, "step": "eval"}], "failed", 1),
        ([OK, {**FAILED, "step": "export"}], "finished", 1),
        ([AT_WORK, {"exit_code": 75, "reason": "busy"}], "running", 1),
        ([{"exit_code": 75, "reason": "busy"}], "failed", 1),
        ([{"exit_code": 143, "reason": "requeued"}], "stopped", 1),
        ([{**OK, "task": 0, "tasks": 2}], "submitted", 0),
        ([{**OK, "task": 0, "tasks": 2}, {**OK, "task": 1, "tasks": 2}], "finished", 2),
        ([{**OK, "task": 1, "tasks": 2}, {**AT_WORK, "task": 0, "tasks": 2}], "running", 2),
        ([{**FAILED, "task": 0, "tasks": 2}, {**OK, "task": 1, "tasks": 2}], "failed", 1),
        ([{**FAILED, "task": 0, "tasks": 2}, {**OK, "task": 0, "tasks": 2}], "submitted", 0),
        ([{**FAILED, "task": t, "tasks": 2, "step": "sweep"} for t in (0, 1)], "failed", 2),
        ([{**OK, "tasks": 2, "step": "sweep"}, {**FAILED, "task": 1, "tasks": 2, "step": "sweep"}], "finished", 1),
    ],
)  # fmt: skip
def test_a_runs_state_is_that_of_the_attempt_that_tells(
    root: Path, job: Job, attempts: list[dict[str, object]], state: str, number: int
) -> None:
    assert told(root, job, *attempts) == (state, number)


def test_what_is_done_with_a_checkpoint_is_a_job_of_its_own(root: Path, job: Job) -> None:
    path = runs.claim(root, "r")
    runs.write_submission(path, job("true"), "")
    for number, facts in enumerate([AT_WORK, {**OK, "step": "eval"}, {**FAILED, "step": "eval"}], 1):
        attempt(path, number, **{"end": "2026-01-01T00:00:01Z", **facts})
    layout.script_file(path, "export").touch()
    found = {run.name: runs.recorded_status(run) for run in runs.read_all(root)}
    assert {name: (status.state, status.attempt) for name, status in found.items()} == {
        "r": ("running", 1), "r:eval": ("failed", 3), "r:export": ("submitted", 0),
    }  # fmt: skip
    assert "jobctl logs r:eval" in found["r:eval"].detail
    assert runs.read_again(runs.read(root, "r:eval")).step == "eval"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("r:eval", "run 'r' has no eval"),
        ("r:", "has no step"),
        ("r:train", "has no train"),
        ("q:eval", "no run 'q'"),
    ],
)
def test_a_job_on_a_checkpoint_that_is_not_there_is_a_message(
    root: Path, job: Job, name: str, message: str
) -> None:
    runs.write_submission(runs.claim(root, "r"), job("true"), "")
    with pytest.raises(UserError, match=message):
        runs.read(root, name)


def test_unfit_nodes_are_read_with_their_reasons(root: Path, job: Job) -> None:
    path = runs.claim(root, "r")
    runs.write_submission(path, job("true"), "")
    for number, text in ((1, "n2\tGPU 0 is ill\n"), (2, "n7\tits clock is off\n\n")):
        attempt(path, number, exit_code=201, end="2026-01-01T00:00:01Z")
        (path / "logs" / str(number)).mkdir()
        layout.bad_nodes_file(path, number).write_text(text)
    run = runs.read(root, "r")
    assert runs.bad_nodes(run) == {"n2": "GPU 0 is ill", "n7": "its clock is off"}
    assert runs.bad_nodes(run, 2) == {"n7": "its clock is off"}
    assert runs.recorded_status(run).detail.startswith("n7: its clock is off; exit code 201")


BROKEN = {
    "list": "[]",
    "number": "7",
    "cut": '{"spec": ',
    "bytes": "\udcff",
    "deep": "[" * 100_000,
    "no-spec": '{"spec_hash": "x"}',
    "spec-of-words": '{"spec_hash": "x", "spec": {"target": 1}}',
}


@pytest.mark.parametrize(
    "kind", [*BROKEN, "fifo", "folder", "dead-link", "attempt", "attempt-fifo", "target"]
)
def test_a_broken_run_is_named_and_the_rest_is_listed(root: Path, job: Job, kind: str) -> None:
    for name in ("a", "bad", "z"):
        runs.write_submission(runs.claim(root, name), job("true"), "")
    record = layout.record_file(root / "runs/bad")
    text = record.read_text()
    record.unlink()
    match kind:
        case "fifo":
            os.mkfifo(record)
        case "folder":
            record.mkdir()
        case "dead-link":
            record.symlink_to("nowhere")
        case "attempt" | "attempt-fifo":
            record.write_text(text)
            file = layout.attempt_file(root / "runs/bad", 1)
            os.mkfifo(file) if kind == "attempt-fifo" else file.write_text("[]")
        case "target":
            record.write_text(text.replace('"target": "local"', '"target": "moon"'))
        case _:
            record.write_text(BROKEN[kind], errors="surrogateescape")
    told: list[str] = []
    assert [run.name for run in runs.read_all(root, told.append)] == ["a", "z"]
    assert len(told) == 1
    assert "runs/bad" in told[0]
    with pytest.raises(UserError, match="runs/bad"):
        runs.read(root, "bad")


def test_what_is_no_run_at_all_is_not_mentioned(root: Path, job: Job) -> None:
    runs.write_submission(runs.claim(root, "a"), job("true"), "")
    runs.claim(root, "being-submitted")
    (root / "runs/notes.txt").write_text("mine")
    (root / "runs/\x1b[2J").mkdir()
    told: list[str] = []
    assert [run.name for run in runs.read_all(root, told.append)] == ["a"]
    assert told == []


@pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user, which root alone may")
def test_a_private_run_is_named_and_the_rest_is_listed_for_another_user(job: Job) -> None:
    shared = Path(tempfile.mkdtemp(prefix="jobctl-shared-", dir="/tmp"))
    shared.chmod(0o1777)
    try:
        for name in ("a", "private", "z"):
            runs.write_submission(runs.claim(shared, name), job("true"), "")
        (shared / "runs/private").chmod(0o700)

        def listed() -> str:
            told: list[str] = []
            names = [run.name for run in runs.read_all(shared, told.append)]
            return f"{names} {told}"

        reason = f"{shared}/runs/private: Permission denied"
        assert told_by_other(listed) == f"['a', 'z'] ['{reason}']"
        assert reason in as_other(lambda: runs.is_submitted(shared, "private"))
    finally:
        shutil.rmtree(shared)
