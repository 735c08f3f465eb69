"""``jobctl doctor`` as a user meets it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from jobctl.jobs.core import layout
from jobctl.jobs.monitoring.checks.machine import MACHINE_CHECKS
from tests.jobs.cli.test_analyze import call
from tests.jobs.monitoring.checks.faults import failed, healthy
from tests.jobs.monitoring.runs import start_line, write_log


def test_a_run_that_is_well_and_one_that_is_not(root: Path) -> None:
    healthy(layout.run_dir(root, "well"))
    failed(layout.run_dir(root, "ill"), "torch.OutOfMemoryError: CUDA out of memory")
    shown = call("doctor", "well")
    assert (shown.exit_code, "no problems" in shown.output) == (0, True)
    shown = call("doctor", "ill")
    assert shown.exit_code == 1
    assert "1. A GPU ran out of memory." in shown.output
    assert "rank-00001.log: torch.OutOfMemoryError" in shown.output
    facts = json.loads(call("doctor", "well", "ill", "--json").output)
    assert [len(found) for found in facts["findings"].values()] == [0, 1]
    assert facts["findings"]["ill"][0]["check"] == "gpu_out_of_memory"


def test_the_machine_and_what_a_job_needs(root: Path) -> None:
    root.mkdir()
    machine = call("doctor")
    assert "11 checks" in machine.output
    job = call("doctor", "--model", "qwen3_smoke", "--json")
    checks = [finding["check"] for finding in json.loads(job.output)["findings"]["this machine"]]
    assert "inputs" in checks, "no data set has been prepared"
    assert job.exit_code == 1


def test_a_run_that_has_written_nothing_is_not_called_well(root: Path) -> None:
    layout.run_dir(root, "bare").mkdir(parents=True)
    shown = call("doctor", "bare")
    assert shown.exit_code == 0
    assert "nothing to check: 'bare' has no log and no attempt yet" in shown.output
    assert json.loads(call("doctor", "bare", "--json").output)["unchecked"] == ["bare"]


def test_a_failure_that_no_check_explains_is_named(root: Path) -> None:
    failed(layout.run_dir(root, "ill"), "some words that nobody knows", exit_code=77)
    shown = call("doctor", "ill")
    assert shown.exit_code == 1
    assert "1. The run failed for a reason that no check knows." in shown.output
    assert "exit code 77; the last line of rank-00001.log: some words that nobody knows" in shown.output


def test_a_run_without_a_step_says_what_could_not_be_checked(root: Path) -> None:
    write_log(layout.run_dir(root, "begun"), [start_line("begun")])
    healthy(layout.run_dir(root, "well"))
    assert "'begun' has logged no step yet" in call("doctor", "begun").output
    assert "no step" not in call("doctor", "well").output
    assert json.loads(call("doctor", "begun", "well", "--json").output)["without_steps"] == ["begun"]


def test_a_document_without_gradient_norms_has_no_bad_steps(root: Path) -> None:
    metrics = layout.metrics_dir(layout.run_dir(root, "old"))
    metrics.mkdir(parents=True)
    steps = [{"iter": step, "loss": 3.0, "dt_ms": 100.0} for step in range(1, 8)]
    (metrics / "run_1.json").write_text(json.dumps({"training_iterations": steps}))
    found = json.loads(call("doctor", "old", "--json").output)["findings"]["old"]
    assert "loss_not_a_number" not in [finding["check"] for finding in found]


def test_each_part_of_a_place_says_how_many_checks_looked_at_it(root: Path) -> None:
    words = ("doctor", "--model", "qwen3_1.8b", "--hardware", "cpu", "--target", "slurm")
    numbers = [int(number) for number in re.findall(r"^(\d+) checks?, ", call(*words).stdout, re.MULTILINE)]
    assert numbers[1:] == [len(MACHINE_CHECKS)]
    assert sum(numbers) == json.loads(call(*words, "--json").stdout)["checks"]
