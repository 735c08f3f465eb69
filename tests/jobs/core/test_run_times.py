import json
from pathlib import Path

import pytest

from jobctl.jobs.core import layout
from jobctl.jobs.core.run_times import read_goodput, read_spans, read_starts

BEGAN = {"kind": "began", "attempt": 1, "launched": 1000.0}
TIME = {"kind": "time", "iter": 10, "at": 1060.0, "seconds": {"startup": 20.0, "steps": 40.0}, "tokens": 640}


def write_log(run: Path, number: int, *records: object) -> Path:
    path = layout.metrics_dir(run) / f"run_20260101-000000-{number:03d}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records))
    return path


def write_attempt(run: Path, number: int, **facts: object) -> None:
    path = layout.attempt_file(run, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"attempt": number, **facts}))


def test_everything_is_read_from_the_run_directory_alone(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"submitted": "1970-01-01T00:16:20Z", "spec": {}}')
    write_attempt(tmp_path, 1, start="1970-01-01T00:16:35Z", end="1970-01-01T00:17:45Z")
    write_attempt(tmp_path, 2, start="1970-01-01T00:20:00Z", end="1970-01-01T00:21:00Z", step="eval")
    write_log(tmp_path, 1, BEGAN, {"kind": "iteration", "iter": 1}, TIME, {"kind": "summary"})
    goodput = read_goodput(tmp_path)
    assert goodput
    assert goodput.seconds == {"queue": 15.0, "startup": 25.0, "steps": 40.0, "other": 5.0}
    assert goodput.tokens == 640


def test_a_hang_has_a_verdict_in_the_log_folder(tmp_path: Path) -> None:
    write_attempt(tmp_path, 1, start="1970-01-01T00:16:40Z", end="1970-01-01T00:20:00Z")
    path = layout.hang_file(tmp_path, 1)
    path.parent.mkdir(parents=True)
    path.write_text('{"last_progress": 1070.5, "lines": []}')
    assert [span.hung_since for span in read_spans(tmp_path)] == [1070.5]


def test_damaged_and_foreign_files_are_left_out(tmp_path: Path) -> None:
    whole = write_log(tmp_path, 1, {"kind": "resumed", "iter": 7}, BEGAN, TIME)
    with open(whole, "a") as file:
        file.write('{"kind":"time","iter":2')
    write_log(tmp_path, 2, {"kind": "iteration", "iter": 1})
    (tmp_path / "metrics" / "run_copy.jsonl").write_text(json.dumps(BEGAN))
    write_attempt(tmp_path, 1, start="yesterday")
    (tmp_path / "attempts" / "2.json").write_text("{")
    (tmp_path / "run.json").write_bytes(b"\xff")
    assert read_spans(tmp_path) == []
    (start,) = read_starts(tmp_path)
    assert (start.resumed, len(start.intervals), start.ended) == (7, 1, False)
    goodput = read_goodput(tmp_path)
    assert goodput
    assert goodput.wall_seconds == pytest.approx(60.0)


def test_a_run_that_has_not_begun_has_no_times(tmp_path: Path) -> None:
    assert read_goodput(tmp_path / "nothing") is None


def test_attempts_that_died_before_the_first_step_are_accounted_for(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"submitted": "1970-01-01T00:16:20Z", "spec": {}}')
    write_attempt(tmp_path, 1, start="1970-01-01T00:16:35Z", end="1970-01-01T00:16:45Z")
    write_attempt(tmp_path, 2, start="1970-01-01T00:17:00Z", end="1970-01-01T00:17:20Z")
    goodput = read_goodput(tmp_path)
    assert goodput
    assert goodput.seconds == {"queue": 15.0, "startup": 30.0, "requeue": 15.0}
    assert goodput.share == 0.0
    assert sum(goodput.shares().values()) == pytest.approx(1.0)


def test_a_log_with_steps_but_without_times_gives_no_account(tmp_path: Path) -> None:
    write_attempt(tmp_path, 1, start="1970-01-01T00:16:35Z", end="1970-01-01T00:20:00Z")
    log = write_log(tmp_path, 1, {"kind": "iteration", "iter": 1})
    assert read_goodput(tmp_path) is None
    # What is left where only the document was copied says no times either.
    log.rename(log.with_suffix(".json"))
    assert read_goodput(tmp_path) is None
