from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.layout import preparation_file
from jobctl.prep.shards.format import Meta, SourceFile, TokenizerRecord
from jobctl.prep.shards.statistics import Count, Statistics
from jobctl.prep.work import progress
from jobctl.prep.work.progress import SILENT, Done, Reporter, Sum, Tally, Worker, bar, publish, status, whole
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


def test_a_damaged_record_of_a_task_is_named(tmp_path: Path) -> None:
    file = record_file(tmp_path, "tokenizing", 0)
    file.parent.mkdir(parents=True)
    file.write_text('{"x": ' + "[" * 200_000)
    with pytest.raises(UserError, match="is damaged"):
        Tally(tmp_path).done("tokenizing")


@pytest.fixture
def reporter(tmp_path: Path) -> Reporter:
    progress.folder(tmp_path).mkdir(parents=True)
    return Reporter(tmp_path)


def reported(output: Path) -> Worker:
    (only,) = progress.workers(output)
    return only


def test_a_worker_counts_its_task_apart_from_those_before_it(reporter: Reporter, tmp_path: Path) -> None:
    reporter.begin("tokenizing", 3)
    reporter.seen(100, 0)
    reporter.seen(0, 40)
    reporter.finish()
    done = reported(tmp_path)
    assert (done.task, done.read_bytes, done.tokens) == (None, 0, 0)
    assert (done.read_before, done.tokens_before) == (100, 40)

    reporter.begin("tokenizing", 5)
    reporter.seen(10, 4)
    reporter.write()
    busy = reported(tmp_path)
    assert (busy.task, busy.read_bytes, busy.tokens) == (5, 10, 4)
    assert (busy.read_before, busy.tokens_before, busy.started) == (100, 40, done.started)


def test_a_new_stage_begins_its_sums_and_its_clock_anew(reporter: Reporter, tmp_path: Path) -> None:
    reporter.begin("hashing", 1)
    reporter.seen(100, 40)
    reporter.finish()
    reporter.worker.started -= 50
    before = reporter.worker.started
    reporter.begin("tokenizing", 0)
    now = reported(tmp_path)
    assert (now.stage, now.read_before, now.tokens_before) == ("tokenizing", 0, 0)
    assert now.started > before + 40


def test_a_worker_that_reads_fast_does_not_write_its_file_each_time(
    reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("jobctl.prep.work.progress.time.time", lambda: now)
    reporter.begin("tokenizing", 0)
    reporter.seen(7, 1)
    assert reported(tmp_path).read_bytes == 0
    now += 2 * progress.EVERY
    reporter.seen(7, 1)
    assert reported(tmp_path).read_bytes == 14


def test_a_disk_without_room_does_not_end_the_work(reporter: Reporter, tmp_path: Path) -> None:
    progress.folder(tmp_path).rmdir()
    reporter.begin("tokenizing", 3)
    reporter.seen(1, 1)
    reporter.finish()
    assert progress.workers(tmp_path) == []


def test_a_report_that_cannot_be_read_hides_no_other(reporter: Reporter, tmp_path: Path) -> None:
    reporter.begin("tokenizing", 3)
    folder = progress.folder(tmp_path)
    (folder / "torn.json").write_text('{"owner": "a:1", "sta')
    (folder / "other.json").write_text('{"owner": 3}')
    (folder / ".aside.json").write_text('{"owner": "being:written"}')
    (folder / "folder.json").mkdir()
    assert [worker.task for worker in progress.workers(tmp_path)] == [3]


def test_a_stage_that_reads_nothing_is_done_when_its_tasks_are() -> None:
    def share(done: int, tasks: int) -> float:
        return status([], state="listing-keys", tasks=tasks, done=Sum(tasks=done), size=0).share

    assert [share(0, 1), share(1, 1), share(0, 0)] == [0.0, 1.0, 0.0]


def test_two_workers_at_one_task_do_not_make_more_than_the_whole() -> None:
    twice = [worker("a:1", read_bytes=500), worker("b:1", read_bytes=500)]
    now = status(twice, state="tokenizing", tasks=4, done=DONE, size=1000)
    assert (now.read_bytes, now.share, now.seconds_left) == (1000, 1.0, 0.0)


NOW = status([], state="tokenizing", tasks=4, done=DONE, size=1000)


def test_the_jobs_file_is_written_now_and_then_and_surely_at_the_end(tmp_path: Path) -> None:
    path = preparation_file(tmp_path)
    path.parent.mkdir(parents=True)
    publish(tmp_path, NOW)
    assert json.loads(path.read_bytes())["tasks_done"] == 2

    def published(tasks: int, state: str = "tokenizing") -> int:
        publish(tmp_path, status([], state=state, tasks=4, done=Sum(tasks=tasks), size=1000))
        return int(json.loads(path.read_bytes())["tasks_done"])

    assert published(3) == 2, "it was written a moment ago"
    assert published(4, "finished") == 4
    old = time.time() - 2 * progress.PUBLISHED
    os.utime(path, (old, old))
    assert published(1) == 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_status_that_cannot_be_published_does_not_end_the_work(tmp_path: Path) -> None:
    publish(tmp_path, NOW)
    assert list(tmp_path.iterdir()) == []


def test_a_whole_data_set_has_the_sums_of_its_meta() -> None:
    record = TokenizerRecord(name="gpt2", file="tokenizer.json", sha256="")
    sources = tuple(SourceFile(path=name, size=size, sha256="") for name, size in (("a", 700), ("b", 300)))
    meta = Meta(
        dataset="x", dtype="uint16", vocab_size=9, tokenizer=record, eos_id=0, documents=2, tokens=3_000_000,
        text_bytes=900, shards=(), sources=sources,
    )  # fmt: skip
    now = whole(meta, tasks=5)
    assert (now.state, now.tasks_done, now.tasks, now.share) == ("finished", 5, 5, 1.0)
    assert (now.read_bytes, now.size, now.tokens, now.seconds_left) == (1000, 1000, 3_000_000, 0.0)
    assert bar(now, width=4) == "finished [====] 100.0%  5/5 tasks  3.0 M tokens"


def test_an_unknown_end_is_shown_as_unknown() -> None:
    at_its_first_document = worker("a:1")
    assert bar(status([at_its_first_document], state="tokenizing", tasks=4, done=Sum(), size=9)).endswith(
        "0.00 M/s  0.0 MB/s  --:--:-- left"
    )
