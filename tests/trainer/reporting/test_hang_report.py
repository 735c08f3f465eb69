from __future__ import annotations

from pathlib import Path

from jobctl.jobs.core.layout import hang_file, rank_log
from jobctl.trainer.reporting.hang_report import hang_report, tail


def test_a_hang_is_said_with_where_to_look_and_who_is_silent(tmp_path: Path) -> None:
    for rank, text in enumerate(("start\nno step for 5 s; every thread's stack:\nThread 0x1", "start\n")):
        rank_log(tmp_path, 2, rank).parent.mkdir(parents=True, exist_ok=True)
        rank_log(tmp_path, 2, rank).write_text(text)
    for attempt in (2, None):
        assert f"{tmp_path}/logs/2/rank-*.log (not in that of rank-00001)" in hang_report(tmp_path, attempt)
    rank_log(tmp_path, 2, 0).write_text("start\n")
    assert hang_report(tmp_path, None) == ""
    assert hang_report(tmp_path / "nothing", None) == ""


def test_a_verdict_on_a_hang_makes_the_list_of_stacks_needless(tmp_path: Path) -> None:
    log = rank_log(tmp_path, 1, 0)
    log.parent.mkdir(parents=True)
    log.write_text("no step for 5 s; every thread's stack:\n")
    assert hang_report(tmp_path, 1)
    hang_file(tmp_path, 1).parent.mkdir()
    hang_file(tmp_path, 1).write_text("{}")
    assert hang_report(tmp_path, 1) == ""


def test_only_the_end_of_a_long_log_is_searched_for_a_hang(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"0123456789")
    assert tail(path, size=4) == b"6789"
    assert tail(path, size=10) == b"0123456789"
    assert tail(path, size=11) == b"0123456789"
