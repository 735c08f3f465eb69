"""How attempts end: the words of the logs count only where an attempt failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.monitoring.checks import ending
from jobctl.jobs.monitoring.checks.ending import SAID
from jobctl.jobs.monitoring.checks.finding import RunFacts
from jobctl.jobs.monitoring.history import History, Segment, Step, Summary
from jobctl.jobs.monitoring.opening import Records
from jobctl.jobs.runs.records import Attempt
from tests.jobs.monitoring.checks.faults import failed, healthy, log_line
from tests.jobs.monitoring.checks.test_diagnosis import findings
from tests.jobs.monitoring.runs import write_attempt


def test_what_an_attempt_survived_is_no_matter(tmp_path: Path) -> None:
    healthy(tmp_path)
    log_line(tmp_path, "OSError: [Errno 28] No space left on device")
    assert findings(tmp_path) == []


def test_a_run_that_still_goes_on_is_asked(tmp_path: Path) -> None:
    failed(tmp_path, "torch.OutOfMemoryError: CUDA out of memory")
    write_attempt(tmp_path, 1)
    assert [finding.check for finding in findings(tmp_path)] == ["gpu_out_of_memory"]


@pytest.mark.parametrize(
    ("line", "check"),
    [
        (
            "FileNotFoundError: [Errno 2] No such file or directory: '/root/datasets/x/train.bin'",
            "data_missing",
        ),
        ("train-00003.bin: its checksum differs from meta.json", "data_damaged"),
        ("Timeout (0:30:00)!", "hang"),
        ("RuntimeError: index out of range in self", "wrong_ids"),
        ("torch.distributed.DistBackendError: NCCL WARN socket timed out", "network"),
    ],
)
def test_further_words(tmp_path: Path, line: str, check: str) -> None:
    failed(tmp_path, line)
    assert [finding.check for finding in findings(tmp_path)] == [check]


def test_a_cancelled_run_is_not_ill(tmp_path: Path) -> None:
    failed(tmp_path, "the user has ended it", 143)
    assert findings(tmp_path) == []


def test_failures_have_names_of_their_own() -> None:
    names = [words.check for words in SAID]
    assert len(set(names)) == len(names) >= 12


def attempt(number: int, code: int | None = 1, reason: str = "failed") -> Attempt:
    end = None if code is None else "2026-01-01T01:00:00Z"
    return Attempt(
        attempt=number, job_id="7", target="slurm", host="h", nodes="n7", pid=1, start="2026-01-01T00:00:00Z",
        end=end, exit_code=code, reason=reason,
    )  # fmt: skip


def facts(
    *codes: int | None,
    logs: dict[str, str] | None = None,
    last: int = 0,
    segments: tuple[tuple[int, int], ...] = (),
    summary: Summary | None = None,
) -> RunFacts:
    """Return the facts of a run. ``segments`` are the last step and the repeated steps of each log."""
    history = History(
        name="r",
        path=Path("r"),
        steps=[Step(last)] if last else [],
        segments=[
            Segment(file="", began=None, resumed_from=None, last=step, repeated=repeated)
            for step, repeated in segments
        ],
        summary=summary,
    )
    attempts = tuple(attempt(number, code) for number, code in enumerate(codes, 1))
    return RunFacts(history=history, records=Records(attempts=attempts), logs=logs or {})


@pytest.mark.parametrize(
    ("code", "dies"),
    [(None, False), (0, False), (128, False), (129, False), (130, False), (131, True), (137, True), (143, False),
     (192, True), (193, False), (200, False)],
)  # fmt: skip
def test_a_signal_that_nobody_sends_on_purpose_is_named_by_its_number(code: int | None, dies: bool) -> None:
    finding = ending.died_by_signal(facts(code))
    assert (finding is not None) == dies
    if finding:
        assert f"Signal {int(code or 0) - 128} ended a rank," in finding.cause
        assert finding.evidence == f"exit code {code}"


@pytest.mark.parametrize(
    ("code", "log", "evidence"),
    [
        (201, "", "exit code 201 on n7"),
        (201, "NVRM: Xid 79", "rank-00000.log: NVRM: Xid 79"),
        (1, "NVRM: Xid 79", "rank-00000.log: NVRM: Xid 79"),
        (None, "NVRM: Xid 79", "rank-00000.log: NVRM: Xid 79"),
        (0, "NVRM: Xid 79", ""),
        (200, "NVRM: Xid 79", ""),
        (1, "all is well", ""),
        (1, "Xidney is a name", ""),
    ],
)
def test_a_gpu_is_broken_by_its_exit_code_or_by_words_of_a_run_that_did_not_end_well(
    code: int | None, log: str, evidence: str
) -> None:
    finding = ending.broken_gpu(facts(code, logs={"rank-00000.log": log}))
    assert (finding.evidence if finding else "") == evidence


@pytest.mark.parametrize(
    ("log", "evidence"),
    [
        ("", "exit code 2"),
        ("so it goes\nerror: --steps: no such option", "batch.log: error: --steps: no such option"),
        ("an error: not at the beginning", "exit code 2"),
    ],
)
def test_a_refusal_is_shown_with_its_line_or_its_code(log: str, evidence: str) -> None:
    finding = ending.wrong_configuration(facts(2, logs={"batch.log": log}))
    assert finding is not None
    assert finding.evidence == evidence
    assert ending.wrong_configuration(facts(1, logs={"batch.log": log})) is None


@pytest.mark.parametrize(
    ("last", "repeated", "much"),
    [
        (200, (9,), False),
        (200, (10,), True),
        (200, (4, 6), True),
        (99, (50,), False),
        (100, (5,), True),
        (200, (0,), False),
    ],
)
def test_a_twentieth_of_a_long_run_is_much_to_repeat(
    last: int, repeated: tuple[int, ...], much: bool
) -> None:
    run = facts(1, last=last, segments=tuple((last, count) for count in repeated))
    assert (ending.much_repeated(run) is not None) == much


@pytest.mark.parametrize(
    ("run", "fruitless"),
    [
        (facts(1, 1, 1, segments=((60, 0), (60, 0), (60, 0))), True),
        (facts(1, 1, 1, segments=((60, 0), (60, 0), (61, 0))), False),
        (facts(1, 1, segments=((60, 0), (60, 0))), False),
        (facts(1, 1, 1, 1, segments=((10, 0), (60, 0), (60, 0), (60, 0))), True),
        (facts(1, 1, 1, segments=((60, 0), (60, 0), (60, 0)), summary=Summary(60, status="finished")), False),
        # They die before they have a log.
        (facts(1, 1, 1), True),
        (facts(1, 1), False),
        (facts(1, 1, 1, segments=((60, 0),)), True),
        (facts(1, 1, 1, segments=((50, 0), (60, 0))), False),
        (facts(0, 200, 1, 1), False),
        (facts(1, 1, None), False),
    ],
)  # fmt: skip
def test_three_attempts_without_a_step_more_are_enough(run: RunFacts, fruitless: bool) -> None:
    assert (ending.fruitless_attempts(run) is not None) == fruitless


def test_an_attempt_that_was_refused_beside_another_could_add_no_step() -> None:
    run = facts()
    busy = tuple(attempt(number, 75, "busy") for number in range(1, 5))
    assert ending.fruitless_attempts(RunFacts(history=run.history, records=Records(attempts=busy))) is None


def test_a_failure_without_a_known_cause_shows_the_last_line_of_the_launcher() -> None:
    logs = {"batch.log": "one\nthe last\n\n", "rank-00000.log": "another"}
    finding = ending.unexplained_failure(facts(1, logs=logs))
    assert finding is not None
    assert finding.evidence == "exit code 1; the last line of batch.log: the last"
    silent = ending.unexplained_failure(facts(1, logs={"batch.log": " \n"}))
    assert silent is not None
    assert silent.evidence == "exit code 1; it wrote no log"
    by_its_log = ending.unexplained_failure(facts(summary=Summary(5, status="failed")))
    assert by_its_log is not None
    assert by_its_log.evidence == "the log reports a failure; it wrote no log"
    assert ending.unexplained_failure(facts(143)) is None
    assert ending.unexplained_failure(facts(0)) is None
