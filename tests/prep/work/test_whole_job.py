from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobctl.prep.work.whole_job import beside


def test_what_is_done_beside_is_done_by_another_process_when_the_block_ends(tmp_path: Path) -> None:
    with beside(lambda: (tmp_path / "by").write_text(str(os.getpid()))):
        pass
    assert int((tmp_path / "by").read_text()) != os.getpid()


def test_what_fails_beside_is_left_to_who_asks_for_it(capfd: pytest.CaptureFixture[str]) -> None:
    with beside(lambda: 1 // 0):
        pass
    assert capfd.readouterr().err == ""
