"""A package that is missing is one line with the extra's name, wherever it is noticed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import run_command
from jobctl.jobs.core.extras import install_hint, missing_package

SOURCE = Path(__file__).parents[3] / "src"
BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise {error}

sys.meta_path.insert(0, Blocked())
"""


MISSING = "ModuleNotFoundError(name, name=name)"


def without(folder: Path, *names: str, error: str = MISSING) -> dict[str, str]:
    """Return the environment of a Python in which the packages ``names`` are not installed."""
    (folder / "sitecustomize.py").write_text(BLOCK.format(names=names, error=error))
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{SOURCE}", "PYTHONSAFEPATH": "1"}


@pytest.mark.parametrize(
    ("package", "extra", "words"),
    [
        ("torch", "trainer", ["jobctl.trainer.sample", "run"]),
        ("torch", "trainer", ["jobctl.trainer.launch", "--", "--model=x", "--run_dir=run"]),
        ("torch", "trainer", ["jobctl.trainer.export", "run"]),
        ("zstandard", "prep", ["jobctl.prep", "--dataset=sotu", "--tokenizer=gpt2"]),
        ("zstandard", "prep", ["jobctl.prep.fetch", "gpt2"]),
        ("numpy", "prep", ["jobctl.prep.fetch", "gpt2"]),
    ],
)
def test_a_program_of_ours_names_the_extra_and_prints_no_traceback(
    package: str, extra: str, words: list[str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *words],
        env=without(tmp_path, package),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first == f"jobctl: the Python package '{package}' is not installed"
    assert second.strip().endswith(f"[{extra}]'")


def test_ctrl_c_while_torch_is_loaded_is_no_traceback(tmp_path: Path) -> None:
    environment = without(tmp_path, "torch", error="KeyboardInterrupt")
    done = subprocess.run(
        [sys.executable, "-m", "jobctl.trainer.sample", "run"],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


def test_a_command_that_meets_it_later_names_the_extra(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> int:
        raise ModuleNotFoundError("No module named 'safetensors'", name="safetensors.torch")

    with pytest.raises(SystemExit) as left:
        run_command(fails)
    assert left.value.code == 1
    assert "'safetensors' is not installed" in capsys.readouterr().err


def test_a_module_that_nobody_installs_is_a_mistake_of_ours() -> None:
    error = ModuleNotFoundError("No module named 'jobctl.nothing'", name="jobctl.nothing")
    assert missing_package(error) is None
    with pytest.raises(ModuleNotFoundError):
        run_command(lambda: (_ for _ in ()).throw(error))


def test_an_extra_is_installed_from_where_jobctl_came() -> None:
    """The name on the package index is another project's."""
    place = install_hint("k8s").removeprefix("pip install '").removesuffix("[k8s]'")
    assert (Path(place) / "pyproject.toml").is_file()
