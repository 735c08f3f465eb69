"""``jobctl probe``: measured in a process of its own, kept in the root."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobctl.jobs.catalog.entries import Probe
from jobctl.jobs.cli.estimating import read_probe
from jobctl.jobs.cli.probe import hardware_of
from jobctl.jobs.core.errors import UserError
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


def probe_of(device: str, *, on_gpu: bool) -> Probe:
    return Probe(
        device=device, on_gpu=on_gpu, torch="2.15.0", cpus=8, product_tflops={"1x1x1": 1.0}, float8_tflops={},
        attention_tflops=1.0, copy_tb_s={"1": 1.0},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("device", "name"),
    [("NVIDIA H200", "h200"), ("NVIDIA GB200", "gb200"), ("NVIDIA B300 SXM6 AC", "b300"), ("x86_64", "cpu")],
)
def test_the_driver_says_which_hardware_it_is(device: str, name: str) -> None:
    assert hardware_of(probe_of(device, on_gpu=name != "cpu")) == name


@pytest.mark.parametrize("device", ["NVIDIA GH200 480GB", "NVIDIA L40S"])
def test_the_figures_of_an_unknown_gpu_are_not_kept_as_those_of_a_cpu(device: str) -> None:
    with pytest.raises(UserError, match=f"does not know the GPU {device}"):
        hardware_of(probe_of(device, on_gpu=True))


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
