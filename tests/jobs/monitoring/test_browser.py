"""Finding a browser, and what is said where it is missing or fails."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.monitoring.browser import SIZE, find_browser, take_picture
from jobctl.jobs.monitoring.report_page import page
from tests.jobs.monitoring.chromium import need_browser
from tests.jobs.monitoring.runs import write_run
from tests.jobs.monitoring.test_report_page import subject


def program(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_the_usual_names_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JOBCTL_BROWSER", raising=False)
    with pytest.raises(UserError, match="none of chromium"):
        find_browser()

    chrome = program(tmp_path / "google-chrome", "exit 0")
    assert find_browser() == str(chrome)
    other = program(tmp_path / "mine", "exit 0")
    monkeypatch.setenv("JOBCTL_BROWSER", str(other))
    assert find_browser() == str(other)
    monkeypatch.setenv("JOBCTL_BROWSER", "gone")
    with pytest.raises(UserError, match="but gone is on the PATH"):
        find_browser()


def test_a_browser_that_fails_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBCTL_BROWSER", str(program(tmp_path / "b", "echo no display >&2; exit 3")))
    with pytest.raises(UserError, match="made no picture: no display"):
        take_picture(tmp_path / "page.html", tmp_path / "x.png")

    assert not (tmp_path / "x.png").exists()


def test_a_picture_has_the_size_of_a_slide(tmp_path: Path) -> None:
    need_browser()
    html = tmp_path / "page with 'odd' name.html"
    html.write_text(page([subject(write_run(tmp_path / "r"))], "today"))
    for options in ({}, {"figure": "loss", "dark": True}):
        picture = tmp_path / "x.png"
        take_picture(html, picture, **options)  # type: ignore[arg-type]
        data = picture.read_bytes()
        assert struct.unpack(">II", data[16:24]) == SIZE
        assert len(data) > 20_000, "more than an empty page"
