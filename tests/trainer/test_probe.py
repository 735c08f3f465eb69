"""The probe of a machine, on this one."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import torch

from jobctl.trainer.probe import CPU_COPIES, CPU_PRODUCTS, probe, seconds_of


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


def test_the_command_prints_json_and_nothing_else() -> None:
    command = [sys.executable, "-m", "jobctl.trainer.probe", "--device", "cpu", "--seconds", "0.01"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["torch"] == torch.__version__
