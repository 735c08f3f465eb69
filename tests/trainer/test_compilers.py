"""The compiler that kernels need is looked for before the first of them, and its lack is said in words."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest
import torch

from jobctl.jobs.catalog.loader import load_model
from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.trainer import compilers
from jobctl.trainer.training import assembly


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine's programs and its Python's headers: all that a kernel needs."""
    for name in ("gcc", "g++", "my-cc"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    (tmp_path / "Python.h").touch()
    return tmp_path


def test_a_machine_with_compilers_and_headers_lacks_nothing(machine: Path) -> None:
    environment = {"PATH": str(machine)}
    assert compilers.kernels_lack(environment, machine) == ""
    assert compilers.cpu_compile_lacks(environment, machine) == ""


def test_a_bare_machine_lacks_a_c_compiler_and_a_cpp_compiler(machine: Path) -> None:
    environment = {"PATH": "/nowhere"}
    assert compilers.kernels_lack(environment, machine) == (
        "there is no C compiler (not on the PATH: gcc, clang)"
    )
    assert compilers.cpu_compile_lacks(environment, machine) == (
        "there is no C++ compiler (not on the PATH: g++)"
    )


def test_gcc_alone_is_enough_for_a_gpu_and_not_for_a_cpu(machine: Path) -> None:
    (machine / "g++").unlink()
    environment = {"PATH": str(machine)}
    assert compilers.kernels_lack(environment, machine) == ""
    assert "no C++ compiler" in compilers.cpu_compile_lacks(environment, machine)


def test_the_callers_compiler_is_the_one_that_counts(machine: Path) -> None:
    assert compilers.kernels_lack({"PATH": str(machine), "CC": "my-cc -O1"}, machine) == ""
    lack = compilers.kernels_lack({"PATH": str(machine), "CC": "icc"}, machine)
    assert lack == "there is no C compiler ($CC is icc)"


def test_pythons_headers_are_named_with_their_package(machine: Path) -> None:
    (machine / "Python.h").unlink()
    lack = compilers.kernels_lack({"PATH": str(machine)}, machine)
    assert lack == f"there is no {machine}/Python.h (Debian: python3-dev)"


def test_the_headers_of_this_python_are_looked_for(machine: Path) -> None:
    lack = compilers.kernels_lack({"PATH": str(machine)})
    assert (lack == "") == (Path(sysconfig.get_path("include")) / "Python.h").exists()


def test_compile_without_a_compiler_is_an_error_of_the_user(
    monkeypatch: pytest.MonkeyPatch, machine: Path
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(
        UserError, match=r"(?s)--compile=True on cpu: there is no C\+\+ compiler.*--compile=False"
    ):
        assembly.check_compiler(torch.device("cpu").type)
    with pytest.raises(UserError, match=r"--compile=True on cuda: there is no C compiler"):
        assembly.check_compiler("cuda")


def test_a_run_asks_for_the_compiler_before_it_builds_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    model = load_model("qwen3_smoke").config
    train = TrainConfig(compile=True, dtype="float32")
    with pytest.raises(UserError, match=r"--compile=True on cpu"):
        assembly.build_whole_model(model, train, torch.device("cpu"))
