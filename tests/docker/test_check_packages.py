"""The build of an image ends where torch is another one, lacks a GPU's code, or flash-attn cannot be imported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from jobctl.docker import check_packages

WHEEL = "flash_attn-2.8.3-cp311-cp311-linux_x86_64.whl"
RIGHT = {
    "version": "2.15.0+cu132",
    "cuda": "13.2",
    "built_for": "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120",
    "expected_version": "2.15.0",
    "expected_cuda": "13.2",
}


def test_the_torch_that_the_variant_promises_passes() -> None:
    assert check_packages.torch_problems(**RIGHT, needed=["sm_80", "sm_120"]) == []


@pytest.mark.parametrize(
    ("actual", "problem"),
    [
        ({"version": "2.14.1+cu130"}, "torch is 2.14.1+cu130, not 2.15.0"),
        ({"cuda": "13.0"}, "torch is built for CUDA 13.0, not 13.2"),
        ({"cuda": ""}, "torch is built for CUDA none, not 13.2"),
        ({"built_for": "sm_90 sm_100"}, "torch has no code for sm_80, sm_120; it has: sm_90 sm_100"),
    ],
)
def test_another_torch_is_named(actual: dict[str, str], problem: str) -> None:
    assert check_packages.torch_problems(**{**RIGHT, **actual}, needed=["sm_80", "sm_120"]) == [problem]


def test_this_environments_torch_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    cuda = f"--cuda={torch.version.cuda or ''}"
    assert check_packages.main([f"--torch={torch.__version__}", cuda]) == 0
    assert check_packages.main(["--torch=1.0", cuda]) == 1
    assert f"torch is {torch.__version__}, not 1.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "module",
    [
        "raise ImportError('undefined symbol: _ZN3c105ErrorC2')\n",
        "raise OSError('libcudart.so.12')\n",
        "x = 1\n",
    ],
)
def test_a_wheel_that_cannot_be_imported_is_named(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flash_attn.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "flash_attn", raising=False)

    (problem,) = check_packages.flash_attn_problems(WHEEL)
    assert problem.startswith("flash-attn cannot be imported (")
    assert problem.endswith(f"{WHEEL} does not fit this torch and Python")


def test_a_wheel_that_fits_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flash_attn.py").write_text("flash_attn_func = print\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "flash_attn", raising=False)
    assert check_packages.flash_attn_problems(WHEEL) == []
