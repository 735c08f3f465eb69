from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, cast

import pytest

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
