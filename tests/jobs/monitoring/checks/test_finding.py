"""What a check may look at, and how its word is shown."""

from __future__ import annotations

from pathlib import Path

from jobctl.jobs.core import layout
from jobctl.jobs.monitoring.checks.finding import LOG_TAIL_BYTES, Finding, RunFacts, read_logs, text
from jobctl.jobs.monitoring.history import History
from tests.jobs.monitoring.checks.faults import log_line

FINDING = Finding(check="c", cause="It is ill.", evidence="seen", remedy="do this")


def test_the_logs_of_the_last_attempt_are_read(tmp_path: Path) -> None:
    assert read_logs(tmp_path) == {}
    log_line(tmp_path, "old", attempt=1)
    log_line(tmp_path, "\x1b[2Jnew", attempt=2)
    log_line(tmp_path, "launcher", name="batch.log", attempt=2)
    (layout.log_dir(tmp_path, 2) / "folder.log").mkdir()
    assert list(read_logs(tmp_path).items()) == [
        ("batch.log", "launcher\n"),
        ("rank-00001.log", "\\x1b[2Jnew\n"),
    ]
    assert read_logs(tmp_path, 1) == {"rank-00001.log": "old\n"}


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    log_line(tmp_path, "x" * (LOG_TAIL_BYTES + 100))
    assert len(read_logs(tmp_path)["rank-00001.log"]) == LOG_TAIL_BYTES


def test_the_first_line_that_matches_is_the_evidence() -> None:
    facts = RunFacts(history=History(name="r", path=Path()), logs={"a": "one\n", "b": "  two\nthree two"})
    assert facts.search("two") == ("b", "two")
    assert facts.search("four") is None
    assert facts.last_exit_code is None


def test_findings_are_sentences_with_what_to_do() -> None:
    assert text([], 7) == "7 checks, no problems"
    shown = text([FINDING, FINDING], 7)
    assert shown.startswith(
        "1. It is ill.\n   evidence: seen\n   remedy:   do this\n   more:     docs/monitoring.md"
    )
    assert shown.endswith("7 checks, 2 problems")
