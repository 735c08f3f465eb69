"""The bench of faults: what is listened for, and what counts as right."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bench import faults
from bench.faulty_rank import FAULTS
from jobctl.jobs.core import layout
from jobctl.jobs.monitoring.checks.diagnosis import RUN_CHECKS
from jobctl.jobs.runs.records import read_attempts


def test_each_case_injects_a_fault_that_exists_and_awaits_a_check_that_exists() -> None:
    checks = {check.__name__ for check in RUN_CHECKS}
    for name, case in faults.CASES.items():
        assert case.fault in FAULTS, name
        assert case.check in checks | {""}, name
        re.compile(case.console)


@pytest.mark.parametrize(
    ("checks", "expected", "right"),
    [
        (["hang", "low_mfu"], "hang", True),
        (["network"], "hang", False),
        ([], "", True),
        (["low_mfu"], "", True),
        (["straggler"], "", False),
    ],
)
def test_a_finding_is_right_where_it_is_the_expected_one(
    checks: list[str], expected: str, right: bool
) -> None:
    assert faults.named(checks, expected) is right


def test_the_words_of_a_launcher_are_heard_and_its_code_is_returned(tmp_path: Path) -> None:
    log = tmp_path / "batch.log"
    script = "print('rank 1 is in wait (', flush=True); raise SystemExit(7)"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", script], stdout=output)
        heard, code = faults.listen(process, log, r"rank 1 is in \w+ \(")

    assert heard is not None
    assert code == 7
    assert faults.said(log.read_text(), r"rank 1 is") == ["rank 1 is in wait ("]


def test_the_record_of_an_attempt_is_one_that_jobctl_reads(tmp_path: Path) -> None:
    path = layout.attempt_file(tmp_path, 1)
    path.parent.mkdir(parents=True)
    path.write_bytes(msgspec.json.encode(faults.facts_of_attempt(1e9, 1e9 + 5, 137)))

    (attempt,) = read_attempts(tmp_path)

    assert attempt.exit_code == 137
