import json
from pathlib import Path

import pytest

from jobctl.jobs.core import layout
from jobctl.jobs.core.run_times import read_goodput, read_spans, read_starts, read_submitted, start_of

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


def test_attempts_are_in_the_order_of_their_numbers_and_not_of_their_names(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        write_attempt(tmp_path, number, start=f"1970-01-01T00:{number:02d}:00Z")
    assert [span.number for span in read_spans(tmp_path)] == [1, 9, 10]


@pytest.mark.parametrize(
    "name", ["1.json.old", ".1.json.0123.partial", "a1.json", "1.txt", "1234567890.json"]
)
def test_only_files_with_the_name_of_an_attempt_are_attempts(tmp_path: Path, name: str) -> None:
    write_attempt(tmp_path, 1, start="1970-01-01T00:01:00Z")
    layout.attempt_file(tmp_path, 1).rename(tmp_path / "attempts" / name)
    assert read_spans(tmp_path) == []


def test_an_attempt_without_an_end_is_at_work(tmp_path: Path) -> None:
    write_attempt(tmp_path, 1, start="1970-01-01T00:01:00Z")
    write_attempt(tmp_path, 2, start="1970-01-01T00:02:00Z", end="soon")
    assert [(span.start, span.end) for span in read_spans(tmp_path)] == [(60.0, None), (120.0, None)]


@pytest.mark.parametrize("verdict", ["", "{", '{"last_progress": "late"}', "[]"])
def test_a_damaged_verdict_on_a_hang_does_not_hide_its_attempt(tmp_path: Path, verdict: str) -> None:
    write_attempt(tmp_path, 1, start="1970-01-01T00:01:00Z")
    path = layout.hang_file(tmp_path, 1)
    path.parent.mkdir(parents=True)
    path.write_text(verdict)
    assert [span.hung_since for span in read_spans(tmp_path)] == [None]


@pytest.mark.parametrize(
    ("record", "submitted"),
    [
        ('{"submitted": "1970-01-01T00:01:00Z", "later": [1]}', 60.0),
        ('{"submitted": ""}', None),
        ("{}", None),
        ('{"submitted": 60}', None),
        ('{"later": ' + "[" * 100_000, None),
        ('{"submitted": "\xff"}', None),
    ],
    ids=["a time", "by hand", "an older version", "a number", "too deep", "no UTF-8"],
)
def test_a_submission_is_a_time_or_unknown(tmp_path: Path, record: str, submitted: float | None) -> None:
    (tmp_path / "run.json").write_text(record, encoding="latin-1")
    assert read_submitted(tmp_path) == submitted


def lines_of(*records: object) -> list[bytes]:
    return [json.dumps(record, separators=(",", ":")).encode() for record in records]


def test_a_start_has_what_its_log_says() -> None:
    start = start_of(
        lines_of(
            {"kind": "resumed", "iter": 40},
            {**BEGAN, "attempt": 3, "died": 990.0},
            {"kind": "iteration", "iter": 41},
            {**TIME, "iter": 50},
            {**TIME, "iter": 60, "at": 1090.0},
            {"kind": "summary"},
        )
    )
    assert start is not None
    assert (start.attempt, start.launched, start.died) == (3, 1000.0, 990.0)
    assert (start.resumed, start.ended) == (40, True)
    assert [(interval.iter, interval.at, interval.tokens) for interval in start.intervals] == [
        (50, 1060.0, 640),
        (60, 1090.0, 640),
    ]


def test_a_damaged_line_costs_only_itself() -> None:
    lines = lines_of(BEGAN, {"kind": "resumed", "iter": "x"}, {**TIME, "at": "late"}, TIME)
    start = start_of([*lines, b'{"kind":"time","iter":\xff'])
    assert start is not None
    assert (start.resumed, len(start.intervals)) == (0, 1)
    assert start_of(lines[1:]) is None
    assert start_of([b'{"kind":"began","attempt":"x"}', *lines[1:]]) is None


def test_a_log_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    write_log(tmp_path, 1, {**BEGAN, "attempt": 1})
    write_log(tmp_path, 3, {**BEGAN, "attempt": 2})
    (layout.metrics_dir(tmp_path) / "run_20260101-000000-002.jsonl").mkdir()
    assert [start.attempt for start in read_starts(tmp_path)] == [1, 2]


def test_a_document_of_an_older_version_does_not_hide_the_log_of_a_start(tmp_path: Path) -> None:
    log = write_log(tmp_path, 1, {"kind": "resumed", "iter": 1})
    log.with_suffix(".json").write_text("{}")
    write_attempt(tmp_path, 1, start="1970-01-01T00:01:00Z", end="1970-01-01T00:01:30Z")
    goodput = read_goodput(tmp_path)
    assert goodput is not None
    assert goodput.seconds == {"startup": 30.0}
