"""The word of a user: a run's name, a folder, a file of another tool."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.monitoring.opening import open_run
from jobctl.jobs.spec.job_spec import JobSpec
from tests.jobs.cli.recorded import recorded
from tests.jobs.monitoring.runs import start_line, training_lines, write_attempt, write_log, write_run


def test_a_name_a_folder_and_a_log_are_the_same_run(tmp_path: Path) -> None:
    run = write_run(layout.run_dir(tmp_path, "first"), steps=20)
    log = next(layout.metrics_dir(run).iterdir())
    for word in ("first", str(run), str(log)):
        opened = open_run(word, tmp_path)
        assert (opened.name, opened.log.read().last_step) == ("first", 20)


def test_a_log_is_its_run_also_from_inside_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(layout.run_dir(tmp_path, "first"), steps=20)
    log = next(layout.metrics_dir(run).iterdir())
    monkeypatch.chdir(log.parent)
    opened = open_run(log.name, tmp_path)
    assert (opened.name, opened.log.read().last_step) == ("first", 20)


def test_a_document_whose_lines_are_gone_is_read(tmp_path: Path) -> None:
    document = {"training_iterations": [{"iter": 7, "loss": 1.0}]}
    folder = layout.metrics_dir(tmp_path / "old")
    folder.mkdir(parents=True)
    (folder / "run_20260101-000000-000.json").write_text(json.dumps(document))
    assert open_run(str(tmp_path / "old"), tmp_path).log.read().last_step == 7


def test_an_output_folder_of_the_guide_is_its_newest_document(tmp_path: Path) -> None:
    folder = tmp_path / "out-llama-1.36b"
    folder.mkdir()
    for number in (1, 2):
        text = json.dumps({"training_progress": [{"iter": number, "loss": 1.0}]})
        (folder / f"run_2025010{number}_000000.json").write_text(text)

    opened = open_run(str(folder), tmp_path)
    assert opened.log.read().last_step == 2
    assert opened.records().attempts == ()


def test_a_run_without_a_log_yet_is_no_error(tmp_path: Path) -> None:
    run = layout.run_dir(tmp_path, "begun")
    (run / "metrics").mkdir(parents=True)
    assert open_run("begun", tmp_path).log.read().last_step == 0
    assert open_run(str(run), tmp_path).log.read().last_step == 0


def test_the_nearest_name_is_offered(tmp_path: Path) -> None:
    write_run(layout.run_dir(tmp_path, "first"), steps=5)
    with pytest.raises(UserError, match="did you mean 'first'"):
        open_run("frist", tmp_path)

    with pytest.raises(UserError, match="no runs yet"):
        open_run("frist", tmp_path / "empty")

    (tmp_path / "docs").mkdir()
    with pytest.raises(UserError, match=r"neither metrics/run_\*\.jsonl nor run_\*\.json"):
        open_run(str(tmp_path / "docs"), tmp_path)


def test_records_that_cannot_be_read_are_notes(tmp_path: Path) -> None:
    run = tmp_path / "r"
    write_log(run, [start_line(), *training_lines([1, 2])])
    write_attempt(run, 1, end=5.0)
    write_attempt(run, 2, begin=6.0, step="eval")
    records = open_run(str(run), tmp_path).records()
    assert ([a.attempt for a in records.attempts], records.notes, records.ended) == ([1], (), True)

    layout.attempt_file(run, 3).write_text("{")
    layout.record_file(run).write_text("{}")
    records = open_run(str(run), tmp_path).records()
    assert records.attempts == ()
    assert len(records.notes) == 2


def test_a_run_that_was_refused_before_its_first_step_is_one(tmp_path: Path) -> None:
    write_attempt(tmp_path / "refused", 1, end=1.0, exit_code=2)
    opened = open_run(str(tmp_path / "refused"), tmp_path)
    assert opened.log.read().last_step == 0
    assert opened.records().attempts[0].exit_code == 2


def only_documents(run: Path) -> None:
    """Leave of a run's metrics what somebody copied: one document of the training and one of an evaluation."""
    folder = layout.metrics_dir(run)
    folder.mkdir(parents=True)
    steps = [{"iter": step, "loss": 3.0, "dt_ms": 100.0, "tokens_per_sec": 500.0} for step in range(1, 8)]
    training = {"run_name": "other", "config": {"max_iters": 7}, "training_iterations": steps}
    scored = {"eval_steps": [{"iter": 7, "val_loss": 2.5}]}
    (folder / "run_20260101-000000-000.json").write_text(json.dumps(training))
    (folder / "eval_20260102-000000-000.json").write_text(json.dumps(scored))


def test_a_recorded_run_whose_logs_were_not_copied_is_read_from_its_documents(
    tmp_path: Path, job: Callable[..., JobSpec], root: Path
) -> None:
    run = recorded(root, job("true", run="a"))
    only_documents(run.path)
    for word in ("a", str(run.path)):
        history = open_run(word, root).history()
        assert (history.name, history.path, history.last_step, history.max_iters) == ("a", run.path, 7, 7)
        assert [evaluation.val_loss for evaluation in history.evaluations] == [2.5]


def test_the_record_says_what_no_log_says_yet(job: Callable[..., JobSpec], root: Path) -> None:
    recorded(root, job("true", run="a"))
    history = open_run("a", root).history()
    assert (history.model, history.max_iters, history.last_step) == ("qwen3_smoke", 100, 0)
    assert history.world_size == job("true").world_size  # type: ignore[attr-defined]
