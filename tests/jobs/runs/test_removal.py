"""Removing a run directory follows no link, and leaves no half of one."""

from __future__ import annotations

from pathlib import Path

from jobctl.jobs.runs.removal import remove, size_of


def test_a_link_is_removed_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "kept").write_bytes(b"x" * 10_000)
    run = tmp_path / "run"
    run.mkdir()
    (run / "link").symlink_to(data)
    (run / "file").write_bytes(b"x" * 7)
    assert size_of(run, False) == 7
    remove(run, False)
    assert (data / "kept").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_what_an_interrupted_removal_left_is_taken_away_by_the_next(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints/step-1").mkdir(parents=True)
    (run / ".checkpoints.removed/step-0").mkdir(parents=True)
    remove(run, True)
    assert list(run.iterdir()) == []
    remove(run, True)
    assert run.is_dir()
