"""Runs that somebody started by hand: every verb knows them, or says in words why it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobctl.jobs.core import layout
from tests.jobs.cli.test_analyze import call
from tests.jobs.cli.test_cli import Invoke, jobctl
from tests.jobs.monitoring.runs import start_line, training_lines, write_log, write_run

__all__ = ["jobctl"]


def test_status_and_describe_say_what_the_log_says(root: Path) -> None:
    write_run(layout.run_dir(root, "hand"), steps=20)
    for verb in ("status", "describe"):
        shown = call(verb, "hand")
        assert shown.exit_code == 0
        assert "hand: finished  step 20/20 (100%)" in shown.output
        assert "started by hand" in shown.output

    facts = json.loads(call("status", "hand", "--json").output)
    assert (facts["state"], facts["target"], facts["step"], facts["steps"]) == ("finished", "by hand", 20, 20)
    described = json.loads(call("describe", "hand", "--json").output)
    assert described["training"]["iterations"] == 20
    assert described["record"] is None


def test_a_list_has_them_too_and_can_be_narrowed(root: Path) -> None:
    write_run(layout.run_dir(root, "hand"), steps=20)
    write_log(layout.run_dir(root, "going"), [start_line("going"), *training_lines(range(1, 11))])
    layout.run_dir(root, "empty").mkdir()
    listed = json.loads(call("list", "--json").output)
    assert {facts["run"]: facts["state"] for facts in listed} == {"hand": "finished", "going": "running"}
    assert "by hand" in call("list").output
    (only,) = json.loads(call("list", "--json", "--state", "finished", "--newest", "1").output)
    assert only["run"] == "hand"
    assert json.loads(call("list", "--json", "--model", "none-of-these").output) == []
    assert json.loads(call("list", "--json", "--target", "local").output) == []


@pytest.mark.parametrize("words", [("cancel",), ("resume",), ("logs",), ("wait",), ("submit", "eval")])
def test_a_verb_that_needs_a_record_says_what_to_do(
    jobctl: Invoke, root: Path, words: tuple[str, ...]
) -> None:
    write_run(layout.run_dir(root, "hand"), steps=20)
    code, _, said = jobctl(*words, "hand")
    assert code == 1
    assert "it was started by hand" in said
    assert "jobctl analyze hand" in said


def test_one_bad_run_does_not_end_the_list(root: Path) -> None:
    write_run(layout.run_dir(root, "hand"), steps=20)
    broken = layout.metrics_dir(layout.run_dir(root, "broken")) / "run_20260101-000000-000.jsonl"
    broken.mkdir(parents=True)
    assert [facts["run"] for facts in json.loads(call("list", "--json").output)][-1] == "hand"


def test_one_whose_log_is_gone_is_told_from_its_document(jobctl: Invoke, root: Path) -> None:
    metrics = layout.metrics_dir(layout.run_dir(root, "hand"))
    metrics.mkdir(parents=True)
    steps = [{"iter": step, "loss": 3.0, "dt_ms": 100.0} for step in range(1, 8)]
    content = {"config": {"max_iters": 7}, "training_iterations": steps, "summary": {"status": "finished"}}
    (metrics / "run_20260101-000000-000.json").write_text(json.dumps(content))
    for verb in ("status", "describe"):
        shown = call(verb, "hand")
        assert (shown.exit_code, "step 7/7 (100%)" in shown.output) == (0, True)

    assert [facts["step"] for facts in json.loads(call("list", "--json").output)] == [7]
    code, _, said = jobctl("cancel", "hand")
    assert (code, "it was started by hand" in said) == (1, True)
