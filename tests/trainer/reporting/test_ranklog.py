"""All that a rank says is in its log, and rank 0's news on the console."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.layout import rank_log
from jobctl.trainer.distributed import World
from jobctl.trainer.reporting.ranklog import Console, begin, next_attempt
from tests.trainer.running import PROJECT


def test_everything_a_rank_says_is_in_its_log_and_its_news_on_the_console(tmp_path: Path) -> None:
    code = f"""
import io
import logging, os, sys, warnings
from pathlib import Path
from types import SimpleNamespace
from jobctl.trainer.reporting.ranklog import redirect
console = redirect(Path({str(tmp_path)!r}), 2, int(sys.argv[1]))
print("from python"); os.write(2, b"from C\\n"); logging.getLogger("x").info("news"); console.progress("progress")
"""
    shown = [
        subprocess.run(
            [sys.executable, "-c", code, rank], cwd=PROJECT, capture_output=True, text=True, check=True
        )
        for rank in ("0", "1")
    ]
    assert shown[0].stdout.split("\n")[:2] == ["news", "progress"]
    assert "news" not in shown[1].stdout
    for rank in (0, 1):
        text = rank_log(tmp_path, 2, rank).read_text()
        assert all(words in text for words in ("from python", "from C", "news"))
    assert next_attempt(tmp_path) == 3
    assert next_attempt(tmp_path / "new") == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def console_on(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> Console:
    monkeypatch.setattr("os.fdopen", lambda *_, **__: stream)
    monkeypatch.setattr("os.dup", lambda descriptor: descriptor)
    monkeypatch.setattr("sys.stdout", SimpleNamespace(fileno=lambda: 1))
    return Console()


def test_a_terminal_shows_progress_in_place_and_news_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    console = console_on(monkeypatch, stream)
    console.progress("step 1")
    console.progress("step 2")
    console.line("news")
    console.line("more")
    assert stream.getvalue() == "\rstep 1\033[K\rstep 2\033[K\nnews\nmore\n"


def test_a_file_gets_a_line_for_each_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    console = console_on(monkeypatch, stream)
    console.progress("step 1")
    console.line("news")
    assert stream.getvalue() == "step 1\nnews\n"


def test_a_warning_is_called_one(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    console = console_on(monkeypatch, stream)
    for level in (logging.INFO, logging.WARNING):
        console.emit(logging.LogRecord("x", level, "", 1, "disk %s", ("full",), None))
    assert stream.getvalue() == "disk full\nWARNING: disk full\n"


def test_a_console_that_went_away_does_not_end_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    console_on(monkeypatch, Gone()).line("news")


def test_a_run_directory_that_cannot_be_written_names_the_rank(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file is in the way")
    with pytest.raises(UserError, match="rank 3 cannot write into --run_dir"):
        begin(tmp_path, 1, World(3, 4, torch.device("cpu")))
