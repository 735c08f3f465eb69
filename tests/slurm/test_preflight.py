"""The preflight on two nodes of a real Slurm, with gloo; a stand-in for nvidia-smi says that one of them is ill."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs import submission
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.slurm.target import TARGET
from tests.slurm.conftest import PROJECT, Submitter
from tests.slurm.test_attempts import ENDED

ILL = """#!/bin/bash
[ "$(hostname)" = n2 ] && errors=3 || errors=0
echo "0, NVIDIA H100, 570.86, 81559, 4, 9.0, $errors, No, No"
"""


@pytest.fixture
def ill_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Node n2 has uncorrected errors in a GPU's memory."""
    driver = tmp_path / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text(ILL)
    driver.chmod(0o755)
    import os

    monkeypatch.setenv("PATH", f"{driver.parent}:{os.environ['PATH']}")


def preflight(runs: Submitter, run: str, **sets: object) -> None:
    """A preflight job of its own, by the Python of the tests."""
    import sys

    settings = {
        "python": sys.executable,
        "project_dir": PROJECT,
        "exclusive": "false",
        "time_limit": "00:10:00",
    }
    choices = Choices(
        kind="preflight", target="slurm", run=run, named={"nodes": 2},
        sets=tuple(f"{key}={value}" for key, value in (settings | sets).items()),
    )  # fmt: skip
    submission.submit(resolve(choices, version="0", root=str(runs.root)).spec)


def said(runs: Submitter, run: str) -> str:
    return "\n".join(line for line in runs.log(run) if "preflight" in line or "jobctl" in line)


def test_two_good_nodes_measure_with_each_other(slurm_runs: Submitter) -> None:
    preflight(slurm_runs, "good")
    assert slurm_runs.wait("good", *ENDED).state == "finished", slurm_runs.log("good")
    text = said(slurm_runs, "good")
    assert "n1: no GPU; matrix product" in text
    assert "n2: no GPU; matrix product" in text
    assert "all-reduce within" in text
    assert "between nodes" in text
    assert text.endswith("all is well")


@pytest.mark.usefixtures("ill_node")
def test_an_ill_node_is_named_with_the_reason(slurm_runs: Submitter) -> None:
    preflight(slurm_runs, "ill")
    status = slurm_runs.wait("ill", *ENDED)
    assert (status.state, status.exit_code) == ("failed", 1)
    assert "n2: PROBLEM: GPU 0 has 3 uncorrected ECC errors" in said(slurm_runs, "ill")
    bad = (slurm_runs.root / "runs/ill/logs/1/bad-nodes").read_text()
    assert bad == "n2\tGPU 0 has 3 uncorrected ECC errors\n"
    assert "n2: GPU 0 has 3" in slurm_runs.status("ill").detail


def train(runs: Submitter, run: str, **sets: object) -> None:
    """A training that only says where it runs; its preflight is the real one."""
    import sys

    trainer = (
        f'[ "$2" != jobctl.trainer.preflight ] || exec {sys.executable} "$@"; echo trained on $(hostname)'
    )
    runs.submit(run, trainer, **sets)


@pytest.mark.usefixtures("ill_node")
def test_a_training_goes_on_with_its_spare_node(slurm_runs: Submitter) -> None:
    train(slurm_runs, "spare", nodes=1, spare_nodes=1, preflight="stop")
    assert slurm_runs.wait("spare", *ENDED).state == "finished", slurm_runs.log("spare")
    assert [line for line in slurm_runs.log("spare") if "trained on" in line] == ["trained on n1"]
    assert "training on n1" in said(slurm_runs, "spare")


@pytest.mark.usefixtures("ill_node")
def test_a_training_stops_where_too_few_nodes_are_fit(slurm_runs: Submitter) -> None:
    train(slurm_runs, "stopped", nodes=2, preflight="stop")
    status = slurm_runs.wait("stopped", *ENDED)
    assert (status.state, status.exit_code) == ("failed", 201)
    assert "1 nodes are fit, 2 are needed" in said(slurm_runs, "stopped")
    assert not any("trained on" in line for line in slurm_runs.log("stopped"))


@pytest.mark.usefixtures("ill_node")
def test_a_site_may_only_want_to_know(slurm_runs: Submitter) -> None:
    train(slurm_runs, "told", nodes=2, preflight="report")
    assert slurm_runs.wait("told", *ENDED).state == "finished"
    assert sum("trained on" in line for line in slurm_runs.log("told")) == 2
    assert "n2: PROBLEM" in said(slurm_runs, "told")


def test_a_preflight_that_fails_itself_does_not_stop_the_training(slurm_runs: Submitter) -> None:
    slurm_runs.submit(
        "broken", '[ "$2" != jobctl.trainer.preflight ] || exit 9; echo trained', preflight="stop"
    )
    assert slurm_runs.wait("broken", *ENDED).state == "finished"
    assert "found no bad node; the job continues" in said(slurm_runs, "broken")


def test_the_dead_node_of_a_bad_resume_is_left_out(slurm_runs: Submitter) -> None:
    """``jobctl resume`` as well as a retry goes on without the nodes that were bad."""
    slurm_runs.submit("again", '[ "$(hostname)" = n2 ] || exit 201')
    assert slurm_runs.wait("again", *ENDED).exit_code == 201
    submission.resume(slurm_runs.root, "again")
    status = slurm_runs.wait("again", "finished", "failed")
    assert (status.state, status.nodes) == ("finished", "n2")
    assert TARGET.statuses([slurm_runs.read("again")])[0].attempt == 2
