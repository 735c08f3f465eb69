"""The probe of a machine, on this one."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from jobctl.jobs.core.errors import UserError
from jobctl.trainer.probe import CPU_COPIES, CPU_PRODUCTS, main, probe, seconds_of


def test_the_probe_measures_every_size() -> None:
    figures = probe(torch.device("cpu"), lasting=0.01)
    products = figures["product_tflops"]
    copies = figures["copy_tb_s"]
    assert isinstance(products, dict)
    assert isinstance(copies, dict)
    assert list(products) == ["x".join(map(str, sizes)) for sizes in CPU_PRODUCTS]
    assert list(copies) == [str(count) for count in CPU_COPIES]
    assert all(rate > 0 and math.isfinite(rate) for rate in (*products.values(), *copies.values()))
    assert figures["float8_tflops"] == {}


def test_seconds_are_of_one_call_in_a_row_of_many() -> None:
    calls = []
    elapsed = seconds_of(lambda: calls.append(1), torch.device("cpu"), lasting=0.02)
    assert len(calls) > 100
    assert 0 < elapsed < 1e-3


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("echo 'NVML: Driver/library version mismatch'; exit 18", "exit code 18: NVML"),
        ("echo 'NVIDIA H200'", "cannot use this machine's NVIDIA H200"),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, message: str
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["probe", "--seconds", "0.01"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(UserError, match=message):
        main()

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main() == 0


def test_the_command_prints_json_and_nothing_else() -> None:
    command = [sys.executable, "-m", "jobctl.trainer.probe", "--device", "cpu", "--seconds", "0.01"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["torch"] == torch.__version__
