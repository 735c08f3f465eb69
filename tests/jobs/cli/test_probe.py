"""``jobctl probe``: measured in a process of its own, kept in the root."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobctl.jobs.cli.estimating import read_probe
from jobctl.jobs.cli.probe import hardware_of
from tests.jobs.cli.test_cli import Invoke, jobctl

__all__ = ["jobctl"]


def test_the_figures_are_kept_and_the_estimate_uses_them(jobctl: Invoke, root: Path) -> None:
    code, out, _ = jobctl("probe", "--seconds", "0.01", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["hardware"] == "cpu"
    assert Path(facts["file"]) == root / "probes/cpu.json"
    assert read_probe(root, "cpu") is not None
    estimated = json.loads(jobctl("estimate", "--model", "qwen3_smoke", "--json")[1])
    assert estimated["basis"] == "probed"


@pytest.mark.parametrize(
    ("device", "name"),
    [("NVIDIA H200", "h200"), ("NVIDIA GB200", "gb200"), ("NVIDIA B300 SXM6 AC", "b300"), ("x86_64", "cpu")],
)
def test_the_driver_says_which_hardware_it_is(device: str, name: str) -> None:
    assert hardware_of(device) == name


def test_an_interpreter_without_the_trainer_is_refused_in_words(jobctl: Invoke, root: Path) -> None:
    code, _, err = jobctl("probe", "--python", "/bin/false")
    assert code == 1
    assert "the probe failed with exit code 1" in err
    assert "--python FILE" in err
    code, _, err = jobctl("probe", "--python", "/none")
    assert code == 2
    assert not (root / "probes").exists()


def test_an_answer_that_is_no_probe_is_refused(jobctl: Invoke, tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho '{}'\n")
    fake.chmod(0o755)
    code, _, err = jobctl("probe", "--python", str(fake))
    assert code == 1
    assert "the probe printed no figures" in err
