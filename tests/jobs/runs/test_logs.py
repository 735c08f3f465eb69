"""Logs are read over all attempts, by rank, and while they grow."""

import threading
from pathlib import Path

import pytest

from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import logs
from jobctl.jobs.runs.logs import log_files, read_all_ranks, read_logs


def write(run: Path, attempt: int, text: str, rank: int | None = None) -> Path:
    path = layout.batch_log(run, attempt) if rank is None else layout.rank_log(run, attempt, rank)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text)
    return path


def lines(run: Path, rank: int | None = None, attempt: int | None = None) -> list[str]:
    return list(read_logs(run, rank=rank, attempt=attempt, follow=False, ended=lambda: True))


def test_attempts_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for attempt in (10, 2, 1):
        write(tmp_path, attempt, f"attempt {attempt}\n")
    assert lines(tmp_path) == ["attempt 1", "attempt 2", "attempt 10"]
    assert lines(tmp_path, attempt=2) == ["attempt 2"]


def test_a_rank_has_its_own_log(tmp_path: Path) -> None:
    write(tmp_path, 1, "batch\n")
    write(tmp_path, 1, "three\n", rank=3)
    assert lines(tmp_path, rank=3) == ["three"]
    assert log_files(tmp_path, 4, None) == []


def test_bytes_that_are_no_text_do_not_end_the_reading(tmp_path: Path) -> None:
    write(tmp_path, 1, "").write_bytes(b"a\xff\nb")
    assert lines(tmp_path) == ["a\ufffd", "b"]


@pytest.mark.parametrize("text", ["one\ntwo\nthree\n", "one\ntwo\nthree", "one\nlonger than that\nx"])
def test_a_log_larger_than_the_memory_is_read_in_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(logs, "PORTION_BYTES", 6)
    write(tmp_path, 1, text)
    read = lines(tmp_path)
    assert "".join(read) == text.replace("\n", "")
    assert all(len(line) <= 6 for line in read)
    assert read[0] == "one"


def test_following_yields_every_line_once_and_never_half_of_one(tmp_path: Path) -> None:
    write(tmp_path, 1, "one\ntw")
    done = threading.Event()
    reader = read_logs(tmp_path, rank=None, attempt=None, follow=True, ended=done.is_set)
    assert next(reader) == "one"
    write(tmp_path, 1, "o\n")
    assert next(reader) == "two"
    write(tmp_path, 2, "three\nfour")
    assert next(reader) == "three"
    done.set()
    assert list(reader) == ["four"]


def test_nothing_to_read_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the job has not started yet"):
        lines(tmp_path)
    write(tmp_path, 1, "x\n")
    with pytest.raises(UserError, match=r"no log of rank 7 in .*\n  existing logs: 1/batch.log"):
        lines(tmp_path, rank=7)


def test_every_rank_of_every_attempt_with_its_number_before_it(tmp_path: Path) -> None:
    for attempt, rank in ((2, 0), (10, 1), (2, 1)):
        file = layout.rank_log(tmp_path, attempt, rank)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"attempt {attempt}\n")
    lines = list(read_all_ranks(tmp_path, attempt=None, follow=False, ended=lambda: True))
    assert lines == ["[rank 0] attempt 2", "[rank 1] attempt 2", "[rank 1] attempt 10"]
    assert len(list(read_all_ranks(tmp_path, attempt=10, follow=False, ended=lambda: True))) == 1
