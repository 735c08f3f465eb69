"""Injected faults are named, and clean runs raise no alarm."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pytest

from jobctl.jobs.core import layout
from jobctl.jobs.monitoring.checks.diagnosis import RUN_CHECKS, diagnose
from jobctl.jobs.monitoring.checks.finding import Finding, RunFacts, read_logs
from jobctl.jobs.monitoring.opening import open_run
from tests.jobs.monitoring.checks.faults import FAULTS, healthy
from tests.jobs.monitoring.runs import write_attempt

SMOKE_RUNS = Path(__file__).resolve().parents[1] / "data/smoke_runs.json.gz"
"""Logs of real trainings of qwen3_smoke on this project's corpus, one a seed."""


def findings(run: Path, hours: float = 0.0) -> list[Finding]:
    """What is said of a run ``hours`` from now."""
    opened = open_run(str(run), run)
    facts = RunFacts(
        history=opened.log.read(),
        records=opened.records(),
        logs=read_logs(run),
        now=time.time() + 3600 * hours,
    )
    return diagnose(facts)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_fault_is_named_alone(tmp_path: Path, fault: str) -> None:
    check, inject = FAULTS[fault]
    inject(tmp_path)
    found = findings(tmp_path, hours=1.0 if check == "silent" else 0.0)
    assert [finding.check for finding in found] == [check]
    (finding,) = found
    assert finding.evidence
    assert finding.remedy
    assert (Path(__file__).parents[4] / finding.page.partition("#")[0]).is_file()


def test_at_least_twenty_kinds_are_injected_and_each_check_is() -> None:
    assert len(FAULTS) >= 20
    injected = {check for check, _ in FAULTS.values()}
    never = {check.__name__ for check in RUN_CHECKS} - injected - {"driver_answers"}
    assert never <= {"data_missing", "data_damaged", "much_optimizer"}, never


def test_a_healthy_run_raises_no_alarm(tmp_path: Path) -> None:
    healthy(tmp_path)
    assert findings(tmp_path) == []


def smoke_runs() -> dict[str, str]:
    runs: dict[str, str] = json.loads(gzip.decompress(SMOKE_RUNS.read_bytes()))
    return runs


@pytest.mark.parametrize("name", smoke_runs())
def test_real_clean_runs_raise_no_alarm(tmp_path: Path, name: str) -> None:
    path = layout.metrics_dir(tmp_path) / "run_20261129-030000-000.jsonl"
    path.parent.mkdir()
    path.write_text(smoke_runs()[name])
    write_attempt(tmp_path, 1, end=5.0)
    assert findings(tmp_path) == []


def test_there_are_twenty_real_clean_runs() -> None:
    assert len(smoke_runs()) >= 20


def test_an_empty_run_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    assert findings(tmp_path) == []
    write_attempt(tmp_path, 1)
    assert findings(tmp_path) == []
