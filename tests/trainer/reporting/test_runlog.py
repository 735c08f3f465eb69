import logging
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobctl.jobs.core.layout import metrics_dir
from jobctl.trainer.reporting.runlog import (
    RunLog,
    document,
    kept_on_resume,
    logs,
    new_stamp,
    records_of,
    records_of_run,
    totals,
)

START: dict[str, Any] = {"kind": "start", "run_name": "r", "config": {}, "startup_info": {}}


def iteration(step: int) -> dict[str, Any]:
    return {"kind": "iteration", "iter": step, "loss": 5.0 - step, "skipped": False}


def timing(step: int, steps: int) -> dict[str, Any]:
    return {"kind": "timing", "iter": step, "steps": steps, "dt_ms": 10.0, "tokens_per_sec": 100.0}


def test_each_iteration_gets_the_timing_of_its_interval() -> None:
    records = [START, iteration(1), iteration(2), timing(2, 2), iteration(3), timing(3, 1) | {"dt_ms": 99.0}]
    assert [i["dt_ms"] for i in document(records)["training_iterations"]] == [10.0, 10.0, 99.0]


def test_totals_are_over_all_attempts() -> None:
    records = [START, iteration(1), iteration(2), timing(2, 2), START, iteration(3), timing(3, 1)]
    facts = totals(records)
    assert (facts["first_loss"], facts["last_loss"], facts["tokens_per_sec"]) == (4.0, 2.0, 100.0)
    assert totals([START]) == {}


def test_resume_keeps_what_the_checkpoint_covers() -> None:
    records = [
        START,
        iteration(1),
        {"kind": "eval", "iter": 1},
        iteration(2),
        timing(2, 2),
        {"kind": "summary"},
    ]
    assert kept_on_resume(records, 1) == records[:3]


def test_the_attempts_logs_are_one_without_the_steps_that_were_rolled_back(tmp_path: Path) -> None:
    first = RunLog(tmp_path, None)
    first.write([START, *map(iteration, (1, 2, 3))])
    second = RunLog(tmp_path, 2)
    second.write([START, iteration(3), iteration(4)])
    third = RunLog(tmp_path, 3)
    third.write([START, iteration(4)])
    steps = [r["iter"] for r in records_of_run(tmp_path) if r["kind"] == "iteration"]
    assert steps == [1, 2, 3, 4]
    assert logs(tmp_path) == [first.path, second.path, third.path]
    assert len(records_of(first.path)) == 4  # nothing of an earlier attempt is lost


def test_attempts_do_not_copy_the_log(tmp_path: Path) -> None:
    first = RunLog(tmp_path, None)
    first.write([START, *map(iteration, range(1, 1001))])
    for _ in range(20):
        RunLog(tmp_path, 1000)
    size = sum(path.stat().st_size for path in logs(tmp_path))
    assert size < 1.1 * first.path.stat().st_size
    assert len(records_of_run(tmp_path)) == 1001


def test_an_attempt_that_was_killed_before_its_first_step_loses_nothing(tmp_path: Path) -> None:
    RunLog(tmp_path, None).write([START, *map(iteration, (1, 2, 3))])
    RunLog(tmp_path, 2)
    assert [r["iter"] for r in records_of_run(tmp_path) if r["kind"] == "iteration"] == [1, 2]


def test_a_log_of_an_earlier_version_holds_its_whole_run(tmp_path: Path) -> None:
    """Before, each attempt began its file with a copy of what it resumed from."""
    RunLog(tmp_path, None).write([START, *map(iteration, (1, 2, 3))])
    RunLog(tmp_path, None).write([START, iteration(1), iteration(2), START, iteration(3)])
    RunLog(tmp_path, 3).write([START, iteration(4)])
    steps = [r["iter"] for r in records_of_run(tmp_path) if r["kind"] == "iteration"]
    assert steps == [1, 2, 3, 4]


def test_one_document_tells_of_all_attempts(tmp_path: Path) -> None:
    first = RunLog(tmp_path, None)
    first.write([START, *map(iteration, (1, 2))])
    first.write_document()
    second = RunLog(tmp_path, 2)
    second.write([START, iteration(3)])
    second.close(iter=3)
    (path,) = metrics_dir(tmp_path).glob("run_*.json")
    assert path == second.path.with_suffix(".json")
    written = msgspec.json.decode(path.read_bytes())
    assert [step["iter"] for step in written["training_iterations"]] == [1, 2, 3]


def test_a_copy_of_a_log_is_not_taken_for_one(tmp_path: Path) -> None:
    log = RunLog(tmp_path, None)
    log.write([START, iteration(1)])
    for name in (
        f"{log.path.name}.bak",
        "run_copy.jsonl",
        f"run_{log.path.name}",
        "run_29990101-000000-000.jsonl",
    ):
        (metrics_dir(tmp_path) / name).mkdir() if "2999" in name else (metrics_dir(tmp_path) / name).touch()
    assert logs(tmp_path) == [log.path]
    RunLog(tmp_path, 1)


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = RunLog(tmp_path, None)
    log.write([iteration(1)])
    with open(log.path, "ab") as file:
        file.write(b'{"kind":"iteration","iter":2,"lo')
    RunLog(tmp_path, 5)
    assert records_of_run(tmp_path) == [iteration(1)]
    assert caplog.text == ""


def test_a_damaged_line_costs_that_line_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = RunLog(tmp_path, None)
    log.write([iteration(1), iteration(2), iteration(3)])
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(lines[0] + b"\xff\x00{]\n" + b"[1, 2]\n" + lines[2])
    assert records_of(log.path) == [iteration(1), iteration(3)]
    assert f"{log.path}:2 is damaged" in caplog.text


def test_lines_wait_while_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = RunLog(tmp_path, None)
    log.write([iteration(1)])

    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full, caplog.at_level(logging.WARNING):
        full.setattr(os, "pwrite", refuse)
        log.write([iteration(2)])
    assert "No space left" in caplog.text
    log.write([iteration(3)])
    assert [r["iter"] for r in records_of(log.path)] == [1, 2, 3]


def test_the_document_is_rewritten_more_seldom_the_longer_that_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    written = []
    monkeypatch.setattr("jobctl.trainer.reporting.runlog.time.monotonic", lambda: now[0])
    log = RunLog(tmp_path, None)

    def slowly() -> None:
        written.append(now[0])
        now[0] += 2.0

    monkeypatch.setattr(log, "write_document", slowly)
    for second in range(1300):
        now[0] = max(now[0], float(second))
        log.refresh_document()
    assert written == [30.0, 630.0, 1230.0]


def test_a_later_attempt_sorts_later_whatever_the_clock_says(tmp_path: Path) -> None:
    ahead = metrics_dir(tmp_path) / "run_29991231-235959-999.jsonl"
    assert new_stamp(ahead) > "29991231-235959-999"
    stamps = [new_stamp(None)]
    for _ in range(5):
        stamps.append(new_stamp(metrics_dir(tmp_path) / f"run_{stamps[-1]}.jsonl"))
    assert stamps == sorted(set(stamps))
