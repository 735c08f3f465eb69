from __future__ import annotations

import time
from pathlib import Path

import pytest

from jobctl.prep.shards.statistics import Count, Statistics
from jobctl.prep.work import progress
from jobctl.prep.work.progress import SILENT, Done, Reporter, Sum, Tally, Worker, bar, status
from jobctl.prep.work.unit import record_file, write_record
from tests.clusters import BUSY

DONE = Sum(tasks=2, read_bytes=300, tokens=250)


def worker(owner: str, **counts: float) -> Worker:
    now = time.time()
    return Worker(owner=owner, stage="tokenizing", started=now - 10, updated=now, **counts)  # type: ignore[arg-type]


def test_the_sum_of_the_workers_is_the_jobs_progress() -> None:
    dead = worker("dead:2", read_bytes=900, tokens=900)
    dead.updated -= 900
    elsewhere = worker("c:1", read_bytes=900, tokens=900)
    elsewhere.stage = "hashing"
    workers = [
        worker("a:1", read_bytes=100, tokens=50, read_before=200, tokens_before=150),
        worker("b:1", read_bytes=200, tokens=100, read_before=100, tokens_before=100),
        dead,
        elsewhere,
    ]
    found = status(workers, state="tokenizing", tasks=4, done=DONE, size=1000)
    assert (found.workers, found.tasks_done, found.tokens, found.read_bytes) == (2, 2, 400, 600)
    assert found.share == 0.6
    assert round(found.tokens_per_second) == 40
    assert round(found.bytes_per_second) == 60
    assert found.seconds_left is not None
    assert round(found.seconds_left, 1) == 6.7


def test_nothing_done_has_no_rate_and_an_unknown_end() -> None:
    found = status([], state="manifest", tasks=0, done=Sum(), size=0)
    assert found.seconds_left is None
    assert found.share == 0.0
    assert "no worker reports" in bar(found)


def test_a_rate_is_that_of_workers_which_live() -> None:
    dead = worker("dead:1", read_bytes=100, tokens=50)
    dead.updated -= SILENT + 1
    found = status([dead], state="tokenizing", tasks=4, done=DONE, size=1000)
    assert (found.workers, found.tokens_per_second, found.seconds_left) == (0, 0.0, None)
    assert bar(found).endswith("2/4 tasks  0.0 M tokens  no worker reports")


def test_a_worker_that_is_at_one_long_document_is_heard_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "BEAT", 0.001)
    progress.folder(tmp_path).mkdir(parents=True)
    reporter = Reporter(tmp_path)
    reporter.begin("tokenizing", 3)
    first = progress.workers(tmp_path)[0].updated

    reporter.beat()
    deadline = time.monotonic() + BUSY * 30
    while progress.workers(tmp_path)[0].updated == first:
        assert time.monotonic() < deadline
        time.sleep(0.001)

    assert progress.workers(tmp_path)[0].task == 3


def test_the_bar_shows_stage_share_tasks_tokens_rates_and_time_left() -> None:
    only = worker("a:1", tokens=4_000_000, read_bytes=200)
    found = status([only], state="tokenizing", tasks=4, done=DONE, size=1000)
    assert bar(found, width=10) == (
        "tokenizing [=====     ]  50.0%  2/4 tasks  4.0 M tokens  0.40 M/s  0.0 MB/s  00:00:25 left"
    )


def test_finished_tasks_are_added_up_and_each_record_is_read_once(tmp_path: Path) -> None:
    record = Done(read_bytes=100, statistics=Statistics(total=Count(tokens=40)))
    record_file(tmp_path, "tokenizing", 0).parent.mkdir(parents=True)
    tally = Tally(tmp_path)
    for index in (3, 0):
        write_record(tmp_path, "tokenizing", index, record)
    assert tally.done("tokenizing") == Sum(tasks=2, read_bytes=200, tokens=80)
    record_file(tmp_path, "tokenizing", 3).write_bytes(b"not read again")
    write_record(tmp_path, "tokenizing", 1, record)
    assert tally.done("tokenizing") == Sum(tasks=3, read_bytes=300, tokens=120)
    assert tally.done("shuffling") == Sum()
