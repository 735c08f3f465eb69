"""Our own logs: joined over attempts, whatever a kill, a crash or another version left in them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from jobctl.jobs.core import layout
from jobctl.jobs.monitoring.history import History, column
from jobctl.jobs.monitoring.logfile import RunLog, stamp_seconds
from jobctl.trainer.reporting.runlog import RunLog as TrainersLog
from jobctl.trainer.reporting.runlog import records_of_run
from tests.jobs.monitoring.runs import (
    BEGAN,
    curve,
    start_line,
    step_line,
    timing_line,
    training_lines,
    write_log,
)


def read(run: Path) -> History:
    return RunLog(run).read()


def test_a_run_that_has_not_begun_has_an_empty_history(tmp_path: Path) -> None:
    history = read(tmp_path / "r")
    assert (history.name, history.steps, history.segments, history.last_write) == ("r", [], [], None)


def test_attempts_are_one_history_without_the_steps_that_were_rolled_back(tmp_path: Path) -> None:
    first = training_lines(range(1, 26), every=5)
    write_log(tmp_path, [start_line(), *first])
    again = training_lines(range(21, 31), every=5, loss=lambda step: 1.0)
    summary = {"kind": "summary", "iter": 30, "status": "stopped", "reason": "time limit"}
    write_log(tmp_path, [{"kind": "resumed", "iter": 20}, start_line(), *again, summary], minutes=10)

    history = read(tmp_path)
    assert [step.iter for step in history.steps] == list(range(1, 31))
    assert history.steps[19].loss == curve(20)
    assert history.steps[20].loss == 1.0
    assert [interval.iter for interval in history.intervals] == [5, 10, 15, 20, 25, 30]

    one, two = history.segments
    assert (one.began, one.last, one.resumed_from, one.status) == (BEGAN.timestamp(), 25, None, "")
    assert (two.resumed_from, two.last, two.repeated, two.reason) == (20, 30, 5, "time limit")
    assert history.tokens == 30 * 8 * 128


def test_an_attempt_that_began_anew_replaces_those_before(tmp_path: Path) -> None:
    write_log(tmp_path, [start_line(), *training_lines(range(1, 21))])
    write_log(tmp_path, [start_line(), *training_lines(range(1, 4))], minutes=1)
    history = read(tmp_path)
    assert history.last_step == 3
    assert history.segments[1].repeated == 20


def test_the_history_has_the_steps_that_the_trainers_own_reader_has(tmp_path: Path) -> None:
    """The two readers may not drift apart: the trainer makes the document from its own."""
    log = TrainersLog(tmp_path, None)
    log.write([start_line(), *training_lines(range(1, 16), every=5)])
    log.close(iter=15, status="failed")
    log = TrainersLog(tmp_path, 10)
    log.write([start_line(), *training_lines(range(11, 21), every=5, loss=lambda step: 2.0)])
    log.close(iter=20, status="finished")

    records = records_of_run(tmp_path)
    history = read(tmp_path)
    steps = [record for record in records if record["kind"] == "iteration"]
    assert [(s.iter, s.loss) for s in history.steps] == [(r["iter"], r["loss"]) for r in steps]
    timings = [record for record in records if record["kind"] == "timing"]
    assert [(i.iter, i.dt_ms) for i in history.intervals] == [(r["iter"], r["dt_ms"]) for r in timings]
    assert history.summary
    assert history.summary.status == "finished"


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_torn_last_line_waits_for_its_end(tmp_path: Path, cut: int) -> None:
    whole = json.dumps(step_line(3, 5.0))
    path = write_log(tmp_path, [start_line(), *training_lines([1, 2])], torn=whole[:cut])
    log = RunLog(tmp_path)
    assert log.read().last_step == 2
    assert log.read().notes == []

    with path.open("a") as file:
        file.write(whole[cut:] + "\n")

    history = log.read()
    assert (history.last_step, history.steps[-1].loss, history.notes) == (3, 5.0, [])


def test_a_damaged_line_costs_that_line_and_is_told(tmp_path: Path) -> None:
    path = write_log(tmp_path, [start_line(), *training_lines(range(1, 11))])
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = b"\0" * len(lines[3]) + b"\n"
    lines[5] = b'{"kind": "iteration", "iter": "many"}\n'
    path.write_bytes(b"".join(lines))
    history = read(tmp_path)
    assert [step.iter for step in history.steps] == [1, 2, 4, 6, 7, 8, 9, 10]
    assert history.notes == [f"{path}: skipped 2 damaged lines"]


def test_a_line_that_nests_without_end_costs_that_line_alone(tmp_path: Path) -> None:
    log = write_log(tmp_path, [start_line(), step_line(1, 2.0)])
    with log.open("a") as file:
        file.write('{"kind": "iteration", "iter": 2, "x": ' + "[" * 200_000 + "\n")
        file.write(json.dumps(step_line(3, 2.0)) + "\n")

    history = read(tmp_path)
    assert [step.iter for step in history.steps] == [1, 3]
    assert "1 damaged line" in history.notes[0]


def test_a_log_that_is_larger_than_any_is_named_and_not_read(tmp_path: Path) -> None:
    write_log(tmp_path, [start_line(), step_line(1, 2.0)])
    endless = write_log(tmp_path, [start_line()], minutes=10)
    os.truncate(endless, 1 << 31)
    history = read(tmp_path)
    assert [step.iter for step in history.steps] == [1]
    assert history.notes == [f"{endless}: left out: longer than {1 << 30} bytes"]


def test_kinds_and_fields_of_another_version_are_no_damage(tmp_path: Path) -> None:
    other = [{"kind": "straggler", "iter": 2, "rank": 3}, step_line(1, 4.0, flavour="new")]
    write_log(tmp_path, [start_line(), *other, timing_line(1, 1, network_ms=3.0)])
    history = read(tmp_path)
    assert (history.last_step, len(history.intervals), history.notes) == (1, 1, [])


def test_losses_that_are_no_numbers_are_nan(tmp_path: Path) -> None:
    write_log(tmp_path, [start_line(), step_line(1, "nan"), step_line(2, "-inf"), step_line(3, 2)])
    losses = column(read(tmp_path).steps, "loss")
    assert losses[0] != losses[0]
    assert losses[1:] == [float("-inf"), 2.0]


def test_the_score_of_a_checkpoint_joins_the_evaluations(tmp_path: Path) -> None:
    line = {"kind": "eval", "set": "val-x", "perplexity": 1.0}
    write_log(tmp_path, [start_line(), *training_lines([1, 2]), {**line, "iter": 2, "val_loss": 5.0}])
    write_log(tmp_path, [start_line(), {**line, "iter": 1, "val_loss": 6.0}], kind="eval", minutes=5)
    assert [(e.iter, e.val_loss) for e in read(tmp_path).evaluations] == [(1, 6.0), (2, 5.0)]


def test_what_is_no_log_is_not_read(tmp_path: Path) -> None:
    path = write_log(tmp_path, [start_line(), *training_lines([1, 2])])
    path.with_name("run_20260101-000000-000.jsonl.bak").write_text("x")
    path.with_name("run_20990101-000000-000.jsonl").mkdir()
    (layout.metrics_dir(tmp_path) / "run_20980101-000000-000.jsonl").symlink_to(tmp_path / "gone")
    assert read(tmp_path).last_step == 2
    assert stamp_seconds("run_20261399-000000-000.jsonl") is None


def test_only_what_is_new_is_read_again(tmp_path: Path) -> None:
    path = write_log(tmp_path, [start_line(), *training_lines(range(1, 11))])
    log = RunLog(tmp_path)
    first = log.read().steps[0]
    with path.open("a") as file:
        file.write(json.dumps(step_line(11, 1.0)) + "\n")

    history = log.read()
    assert history.steps[0] is first
    assert history.last_step == 11


def test_a_log_of_100_000_steps_is_read_in_a_fraction_of_a_second(tmp_path: Path) -> None:
    write_log(tmp_path, [start_line(), *training_lines(range(1, 100_001))])
    begin = time.process_time()
    history = read(tmp_path)
    spent = time.process_time() - begin
    assert history.last_step == 100_000
    assert spent < 1.5, "seconds of CPU; 0.2 on an idle machine"
