from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, cast

import pytest

from jobctl.jobs.core import memory_kill
from jobctl.jobs.core.errors import UserError
from jobctl.prep.work.pool import Pool


def finish(pool: Pool) -> None:
    try:
        while pool.running():
            pool.wait(1)
    finally:
        pool.stop()


def test_workers_have_what_this_process_has_loaded(tmp_path: Path) -> None:
    loaded = {"in": os.getpid()}

    def work(where: Path, slot: int) -> None:
        (where / str(slot)).write_text(f"{loaded['in']} {os.getpid()}")

    finish(Pool(tmp_path, work, (tmp_path,), 3))
    said = [(tmp_path / str(slot)).read_text().split() for slot in range(3)]
    assert {before for before, _ in said} == {str(os.getpid())}
    assert len({os.getpid(), *(int(mine) for _, mine in said)}) == 4


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    def work(slot: int) -> None:
        first = not (tmp_path / "second").exists()
        (tmp_path / "second").touch()
        if first:
            os.kill(os.getpid(), 9)
        (tmp_path / "done").touch()

    finish(Pool(tmp_path, work, (), 1))
    assert (tmp_path / "done").exists()


class Dying:
    """A worker that is killed just after it was looked at."""

    pid = 1 << 30

    def __init__(self) -> None:
        self._codes = iter([None])

    @property
    def exitcode(self) -> int | None:
        return next(self._codes, -9)


def test_a_worker_that_is_killed_while_the_pool_looks_at_it_is_replaced(tmp_path: Path) -> None:
    pool = Pool(tmp_path, lambda slot: (tmp_path / "done").touch(), (), 1)
    pool._processes[0].join()
    (tmp_path / "done").unlink()
    pool._processes = [cast("Any", Dying())]
    assert pool.running()
    finish(pool)
    assert (tmp_path / "done").exists()


def test_the_error_of_a_worker_is_raised_here_and_ends_the_others(tmp_path: Path) -> None:
    def work(slot: int) -> None:
        if slot:
            raise UserError("no good", hint="do better", code=1)
        time.sleep(600)

    with pytest.raises(UserError, match="no good") as caught:
        finish(Pool(tmp_path, work, (), 2))
    assert (caught.value.hint, caught.value.code) == ("do better", 1)


def killed_for_memory(group: Path, slot: int) -> None:
    """Die as the kernel's victim does, and count as it does in the control group."""
    counter = group / "memory.events"
    kills = int(counter.read_text().split()[1])
    counter.write_text(f"oom_kill {kills + 1}\n")
    os.kill(os.getpid(), 9)


def test_a_worker_that_is_killed_for_memory_names_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.events").write_text("oom_kill 0\n")
    (tmp_path / "memory.max").write_text(f"{3 << 29}\n")
    (tmp_path / "membership").write_text("0::/\n")
    watched = memory_kill.watch(tmp_path / "membership", tmp_path)
    monkeypatch.setattr(memory_kill, "watch", lambda: watched)

    with pytest.raises(UserError) as caught:
        finish(Pool(tmp_path / "out", killed_for_memory, (tmp_path,), 1))

    assert caught.value.message == (
        "a worker was killed by signal 9, and so were its replacements: the kernel killed 4 processes of this job "
        "for memory: its limit is 1.50 GiB; give the job more memory, or use fewer --workers"
    )


def test_a_worker_that_is_killed_otherwise_says_nothing_of_memory(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="so were its replacements") as caught:
        finish(Pool(tmp_path, lambda slot: os.kill(os.getpid(), 9), (), 1))

    assert "memory" not in caught.value.message
    assert capfd.readouterr().err.count("a worker was killed by signal 9; another takes its place") == 3
