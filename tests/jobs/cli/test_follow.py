"""``jobctl wait`` and ``logs``: which exit code, which lines, and when nothing more comes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs.cli import follow as module
from jobctl.jobs.cli.finding import Place
from jobctl.jobs.cli.follow import Progress, exit_code, follow
from jobctl.jobs.core import layout
from jobctl.jobs.runs.store import Run, State, Status
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.submission import submit
from tests.jobs.cli.recorded import recorded
from tests.jobs.cli.test_cli import Invoke, jobctl

__all__ = ["jobctl"]

Job = Callable[..., JobSpec]


def status(state: State, code: int | None = None, detail: str = "") -> Status:
    return Status(run="r", state=state, target="local", exit_code=code, detail=detail)


@pytest.mark.parametrize(
    ("state", "code", "expected"),
    [
        ("failed", 3, 3),
        ("stopped", 200, 200),
        ("lost", None, 1),
        ("cancelled", None, 1),
        ("running", None, 124),
        ("pending", None, 124),
        ("unknown", None, 124),
    ],
)
def test_waiting_leaves_with_the_code_of_the_job(state: State, code: int | None, expected: int) -> None:
    assert exit_code(status(state, code)) == expected


def batch_log(run: Run, text: str) -> Path:
    """Append to the log of the first attempt's batch script."""
    file = layout.log_dir(run.path, 1) / "batch.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as log:
        log.write(text)

    return file


@pytest.fixture
def still(root: Path, job: Job) -> Run:
    """A run whose log nobody else writes."""
    return recorded(root, job("true"))


def test_each_line_is_shown_once_and_a_half_line_when_it_is_whole(
    still: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(quiet=False)
    batch_log(still, "one\n\ntw")
    progress.show(still, status("running"))
    assert capsys.readouterr().err == "r: running\none\n"
    batch_log(still, "o\n")
    progress.show(still, status("running"))
    assert capsys.readouterr().err == "two\n"
    batch_log(still, "the last word")
    progress.show(still, status("failed", 1))
    assert capsys.readouterr().err == "the last word\n"


def test_a_state_is_said_when_it_changes_with_its_reason(
    still: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(quiet=False)
    for state in (status("pending", detail="no free nodes"), status("pending"), status("running")):
        progress.show(still, state)
    assert capsys.readouterr().err == "r: pending (no free nodes)\nr: running\n"


def test_progress_that_is_quiet_says_nothing(still: Run, capsys: pytest.CaptureFixture[str]) -> None:
    batch_log(still, "one\n")
    progress = Progress(quiet=True)
    progress.show(still, status("running"))
    progress.close()
    assert capsys.readouterr() == ("", "")


def test_a_job_that_prints_nothing_for_a_while_is_explained_once(
    still: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOW_SECONDS", -1.0)
    progress = Progress(quiet=False)
    for _ in range(2):
        progress.show(still, status("running"))
    said = "r: running\nr: its program is loading; it has printed nothing yet\n"
    assert capsys.readouterr().err == said


def test_ctrl_c_ends_the_wait_and_says_that_the_job_goes_on(
    jobctl: Invoke, root: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    submit(job('until [ -e "$RUN_DIR/STOP" ]; do sleep 0.02; done; exit 200'))
    monkeypatch.setattr(module, "_pause", interrupted)
    code, _, err = jobctl("wait", "r")
    assert code == 130
    assert "r continues; jobctl wait r follows it, jobctl cancel r ends it" in err
    assert jobctl("cancel", "r", "--graceful")[0] == 0


def test_following_ends_with_the_run(root: Path, job: Job) -> None:
    submit(job("exit 3"))
    _, ended = follow("r", Place(), Progress(quiet=True))
    assert (ended.state, ended.exit_code) == ("failed", 3)


def test_only_lines_that_match_are_printed(jobctl: Invoke, root: Path, job: Job) -> None:
    submit(job("echo first; echo second"))
    follow("r", Place(), Progress(quiet=True))
    assert jobctl("logs", "r", "--grep", "^sec")[1] == "second\n"
    lines = jobctl("logs", "r", "--json")[1].splitlines()
    assert [json.loads(line) for line in lines] == [{"line": "first"}, {"line": "second"}]


def test_the_log_of_an_attempt_that_is_not_there_names_what_is(jobctl: Invoke, root: Path, job: Job) -> None:
    submit(job("true"))
    follow("r", Place(), Progress(quiet=True))
    code, _, err = jobctl("logs", "r", "--attempt", "9")
    assert code != 0
    assert "attempt 9" in err


def test_a_wait_of_less_than_no_time_is_refused(jobctl: Invoke) -> None:
    code, _, said = jobctl("wait", "r", "--timeout", "-1")
    assert code == 2
    assert "x>=0" in said
