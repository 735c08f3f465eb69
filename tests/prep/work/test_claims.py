from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from jobctl.prep.work import claims as claiming
from jobctl.prep.work import pool
from jobctl.prep.work.claims import Claims
from jobctl.prep.work.pool import work_off
from tests.clusters import BUSY
from tests.prep.conftest import PROJECT


def test_a_task_is_taken_once_and_given_back(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "claims", stale=60)
    assert claims.take("a")
    assert not claims.take("a")
    assert claims.take("b")
    with claims.held("a"):
        assert (tmp_path / "claims" / "a").read_text().split()[0] == claiming.owner()
    assert claims.take("a")


def test_what_one_makes_the_others_wait_for_and_nobody_makes_again(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> None:
        time.sleep(0.05)
        made.append(threading.get_ident())

    def find() -> list[int] | None:
        return made or None

    threads = [
        threading.Thread(target=Claims(tmp_path, stale=60).once, args=("t", find, make)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(made) == 1
    assert not (tmp_path / "t").exists()


def test_what_another_made_before_we_got_its_claim_is_not_made_again(tmp_path: Path) -> None:
    looks = iter([None, "theirs", "theirs"])
    assert Claims(tmp_path, stale=60).once("t", lambda: next(looks), lambda: pytest.fail("again")) == "theirs"


def test_nodes_of_the_same_name_and_process_ids_are_told_apart(tmp_path: Path) -> None:
    """As containers that share their machine's network are; the processes of one node know each other."""
    ask = [sys.executable, "-c", "from jobctl.prep.work.claims import NODE; print(NODE)"]
    bare = {name: value for name, value in os.environ.items() if name != "JOBCTL_PREP_NODE"}
    names = [subprocess.check_output(ask, cwd=PROJECT, env=bare, text=True).strip() for _ in range(2)]
    assert names[0] != names[1]
    assert subprocess.check_output(ask, cwd=PROJECT, text=True).strip() == claiming.NODE


def test_a_claim_of_a_silent_owner_is_taken_over(tmp_path: Path) -> None:
    claims = Claims(tmp_path, stale=60)
    assert claims.take("a")
    os.utime(tmp_path / "a", (time.time() - 100, time.time() - 100))
    assert claims.take("a")
    assert not claims.take("a")


def test_a_held_claim_is_kept_alive(tmp_path: Path) -> None:
    claims = Claims(tmp_path, stale=0.4)
    assert claims.take("a")
    with claims.held("a"):
        old = time.time() - 100
        os.utime(tmp_path / "a", (old, old))
        deadline = time.monotonic() + BUSY * 10
        while (tmp_path / "a").stat().st_mtime < old + 50 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (tmp_path / "a").stat().st_mtime > old + 50


def test_the_claims_of_a_dead_worker_are_dropped_and_no_other(tmp_path: Path) -> None:
    claims = Claims(tmp_path, stale=60)
    claims.take("mine")
    (tmp_path / "theirs").write_text("other:1")
    claims.drop("other:1")
    assert claims.take("theirs")
    assert not claims.take("mine")


class Stage:
    """Tasks of a list in memory."""

    name, output = "t", Path()

    def __init__(self, count: int, done: Collection[int]) -> None:
        self.count, self.is_done = count, done.__contains__

    def undone(self, tasks: Sequence[int]) -> list[int]:
        return [index for index in tasks if not self.is_done(index)]


def test_workers_share_the_tasks_and_each_is_done_once(tmp_path: Path) -> None:
    done: list[int] = []

    def work(first: int) -> None:
        work_off(Stage(20, done), Claims(tmp_path, stale=60), first, done.append)

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 5, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(done) == list(range(20))


def test_a_slow_workers_task_is_done_by_one_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "SHORTEST_PATIENCE", 0.0)
    monkeypatch.setattr(pool, "STRANGERS_PATIENCE", 0.3)
    monkeypatch.setattr(pool, "PATIENCE", 0.0)
    monkeypatch.setattr(pool, "POLL", 0.01)
    claims, done = Claims(tmp_path, stale=60), set[int]()
    assert claims.take("t-00001")  # and never finished, though its owner lives
    work_off(Stage(3, done), claims, 0, done.add)
    assert done == {0, 1, 2}


def test_a_slow_workers_task_is_taken_by_one_of_those_that_wait(tmp_path: Path) -> None:
    claims = Claims(tmp_path, stale=60)
    assert claims.take("a")
    assert not claims.take("a", patience=5)
    (tmp_path / "a").write_text(f"slow:1 {time.time() - 10}")
    assert claims.take("a", patience=5)
    assert not claims.take("a", patience=5)


def test_a_task_that_another_finished_before_we_got_its_claim_is_not_done_again(tmp_path: Path) -> None:
    done: list[int] = []

    class Late(Claims):
        def take(self, task: str, patience: float = math.inf) -> bool:
            done.append(0)  # the other finishes just now, and gives its claim back
            return super().take(task, patience)

    work_off(Stage(1, done), Late(tmp_path, stale=60), 0, done.append)
    assert done == [0]
    assert not list(tmp_path.glob("t-*"))


def test_a_claim_that_is_just_being_written_is_not_taken_for_an_old_one(tmp_path: Path) -> None:
    """It is empty for a moment, and its age is that of its file."""
    claims = Claims(tmp_path, stale=60)
    (tmp_path / "a").touch()
    assert not claims.take("a", patience=5)
    os.utime(tmp_path / "a", (time.time() - 10, time.time() - 10))
    assert claims.take("a", patience=5)


def test_a_claim_names_its_owner_and_the_time_of_its_taking(tmp_path: Path) -> None:
    claims = Claims(tmp_path, stale=60)
    claims.take("new")
    (tmp_path / "old").write_text("dead:1 5.0")
    os.utime(tmp_path / "old", (5, 5))
    claims.take("old")
    for task in ("new", "old"):
        name, taken = (tmp_path / task).read_text().split()
        assert name == claiming.owner()
        assert float(taken) == pytest.approx((tmp_path / task).stat().st_mtime, abs=1.0)


def test_a_claim_that_is_touched_is_not_stale_however_old_its_taking_is(tmp_path: Path) -> None:
    claims = Claims(tmp_path, stale=60)
    (tmp_path / "a").write_text("slow:1 5.0")
    assert not claims.take("a")


def test_a_claim_that_is_given_back_while_another_looks_at_it_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = Claims(tmp_path, stale=60)
    (tmp_path / "a").write_text("dead:1 5.0")
    now = claims._now()

    def given_back() -> float:
        (tmp_path / "a").unlink()
        return now

    monkeypatch.setattr(claims, "_now", given_back)
    assert not claims.take("a")
    assert not (tmp_path / "a").exists()


def test_a_block_that_fails_gives_its_claim_back(tmp_path: Path) -> None:
    claims = Claims(tmp_path, stale=60)
    assert claims.take("a")
    with pytest.raises(ZeroDivisionError), claims.held("a"):
        raise ZeroDivisionError
    assert claims.take("a")


def test_what_fails_to_be_made_is_made_by_the_next_who_asks(tmp_path: Path) -> None:
    claims = Claims(tmp_path, stale=60)
    made: list[str] = []

    def fails() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        claims.once("t", lambda: made or None, fails)
    assert claims.once("t", lambda: made or None, lambda: made.append("whole")) == ["whole"]


def test_who_waits_is_told_so_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "POLL", 0.0)
    (tmp_path / "t").write_text(f"other:1 {time.time()}")
    looks = iter([None, None, "theirs"])
    waits: list[str] = []
    result = Claims(tmp_path, stale=60).once(
        "t", lambda: next(looks), lambda: pytest.fail("it is another's"), lambda: waits.append("waiting")
    )
    assert (result, waits) == ("theirs", ["waiting", "waiting"])


def test_clocks_and_claims_that_are_being_renamed_are_not_dropped(tmp_path: Path) -> None:
    claims = Claims(tmp_path, stale=60)
    for name in ("a", ".a.dead:1", ".clock.dead:1"):
        (tmp_path / name).write_text("dead:1 5.0")
    (tmp_path / "folder").mkdir()
    claims.drop("dead:1")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.dead:1", ".clock.dead:1", "folder"]


def test_an_owner_whose_name_begins_like_the_dead_ones_keeps_its_claims(tmp_path: Path) -> None:
    claims = Claims(tmp_path, stale=60)
    (tmp_path / "a").write_text("node:x:12 5.0")
    claims.drop("node:x:1")
    assert (tmp_path / "a").exists()
