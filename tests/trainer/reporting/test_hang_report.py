from __future__ import annotations

from pathlib import Path

from jobctl.jobs.core.layout import rank_log
from jobctl.trainer.reporting.hang_report import hang_report


def test_a_hang_is_said_with_where_to_look_and_who_is_silent(tmp_path: Path) -> None:
    for rank, text in enumerate(("start\nno step for 5 s; every thread's stack:\nThread 0x1", "start\n")):
        rank_log(tmp_path, 2, rank).parent.mkdir(parents=True, exist_ok=True)
        rank_log(tmp_path, 2, rank).write_text(text)
    for attempt in (2, None):
        assert f"{tmp_path}/logs/2/rank-*.log (not in that of rank-00001)" in hang_report(tmp_path, attempt)
    rank_log(tmp_path, 2, 0).write_text("start\n")
    assert hang_report(tmp_path, None) == ""
    assert hang_report(tmp_path / "nothing", None) == ""
