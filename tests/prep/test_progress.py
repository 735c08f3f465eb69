from __future__ import annotations

import time

from prep.progress import Worker, bar, duration, status


def test_the_sum_of_the_workers_is_the_jobs_progress() -> None:
    now = time.time()
    workers = [
        Worker(
            owner="a:1", task="0", source_bytes=100, tokens=50, tokens_done=150, started=now - 10, updated=now
        ),
        Worker(
            owner="b:1",
            task="1",
            source_bytes=200,
            tokens=100,
            tokens_done=100,
            started=now - 10,
            updated=now,
        ),
        Worker(owner="dead", task="2", source_bytes=900, tokens=900, started=now - 999, updated=now - 900),
    ]
    found = status(
        workers, state="tokenizing", tasks=4, tasks_done=2, size=1000, size_done=300, tokens_done=250
    )
    assert (found.workers, found.tokens, found.source_bytes_done) == (2, 400, 600)
    assert found.share == 0.6
    assert round(found.tokens_per_second) == 40
    assert found.bytes_per_second == 60.0
    assert found.seconds_left is not None
    assert round(found.seconds_left, 1) == 6.7


def test_nothing_done_has_no_rate_and_an_unknown_end() -> None:
    found = status([], state="manifest", tasks=0, tasks_done=0, size=0, size_done=0, tokens_done=0)
    assert found.seconds_left is None
    assert "-:-- left" in bar(found)


def test_the_bar_shows_share_shards_tokens_rate_and_time_left() -> None:
    now = time.time()
    worker = Worker(owner="a", source_bytes=0, tokens_done=30_000_000, started=now - 1, updated=now)
    found = status(
        [worker], state="tokenizing", tasks=4, tasks_done=2, size=1000, size_done=500, tokens_done=30_000_000
    )
    assert bar(found, width=10).startswith("[=====     ]  50.0%  2/4 shards  30.0 M tokens  30.00 M/s  0:0")
    assert duration(3725) == "1:02:05"
    assert duration(65) == "1:05"
