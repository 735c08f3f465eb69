"""``jobctl report`` as a user meets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.cli import main
from jobctl.jobs.cli.report import FIGURES
from jobctl.jobs.core import layout
from jobctl.jobs.monitoring.report_page import text_of
from tests.jobs.cli.test_analyze import call
from tests.jobs.monitoring.chromium import need_browser
from tests.jobs.monitoring.runs import write_run


def test_the_page_is_named_after_the_run(root: Path) -> None:
    write_run(layout.run_dir(root, "first"))
    write_run(layout.run_dir(root, "second"))
    assert call("report", "first").output.startswith("first.html (1")
    assert "Report of first" in Path("first.html").read_text()
    call("report", "first", "second")
    assert "Report of first, second" in Path("report.html").read_text()
    call("report", "first", "-o", "x.html")
    assert Path("x.html").is_file()


def test_a_page_into_a_link_leaves_the_link_and_prints_nothing_into_it(root: Path) -> None:
    write_run(layout.run_dir(root, "first"))
    Path("link.html").symlink_to("page.html")
    call("report", "first", "-o", "link.html")
    assert Path("link.html").is_symlink()
    assert "Report of first" in Path("page.html").read_text()


def test_a_picture_alone_or_beside_the_page(root: Path) -> None:
    need_browser()
    write_run(layout.run_dir(root, "first"))
    assert call("report", "first", "--png", "x.png", "--figure", "loss").output == "x.png\n"
    assert Path("x.png").read_bytes().startswith(b"\x89PNG")
    assert not Path("first.html").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["first", "--dark"], 2, "need --png"),
        (["first", "-o", "no/such/x.html"], 1, "cannot be written"),
        (["gone"], 2, "no run 'gone'"),
    ],
)
def test_what_cannot_be_done_is_said(
    root: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    write_run(layout.run_dir(root, "first"))
    with pytest.raises(SystemExit) as leaving:
        main(["report", *words])

    assert (leaving.value.code, message in capsys.readouterr().err) == (code, True)


def test_a_missing_browser_is_said_before_any_work(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBCTL_BROWSER", "gone")
    with pytest.raises(SystemExit):
        main(["report", "gone", "--png", "x.png"])

    assert "each figure has a PNG button" in capsys.readouterr().err


def test_the_figures_of_the_option_are_those_of_the_page() -> None:
    script = text_of("figures.js")
    assert all(f'key: "{figure}"' in script for figure in FIGURES)
    assert script.count('{ key: "') == len(FIGURES)
