"""The shell completes what there is to choose from, and quickly."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from jobctl.jobs.cli import jobctl as group
from jobctl.jobs.spec.job_spec import JobSpec
from tests.jobs.cli.recorded import recorded

Job = Callable[..., JobSpec]
# PyYAML brings the last one.
PACKAGES = {"jobctl", "click", "msgspec", "yaml", "typing_extensions", "cython_runtime"}
MOST_MODULES = 100


@pytest.fixture(autouse=True)
def completing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_JOBCTL_COMPLETE", "bash_complete")


def completed(*words: str) -> list[str]:
    """Return what the shell offers after ``words``, whose last one is incomplete."""
    shell = ShellComplete(group, {}, "jobctl", "_JOBCTL_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("submit", "--model", "qwen"), ["qwen3_1.8b", "qwen3_smoke"]),
        (("submit", "--hardware", "a"), ["a100", "a6000"]),
        (("submit", "--tier", ""), ["1", "2", "3", "4"]),
        (("submit", "--stage", "s"), ["smoke", "sweep"]),
        (("render", "--target", "k8s"), ["k8s", "k8s-trainjob"]),
        (("submit", "--site", "example-s"), ["example-slurm"]),
        (("submit", "--set", "batch"), ["batch_size="]),
        (("submit", "--tokenizer", "ll"), ["llama2", "llama3"]),
        (("submit", "pre"), ["prep", "preflight"]),
        (("pipeline", "--skip", "e"), ["eval", "export"]),
        (("explain", "--describe", "slurm.part"), ["slurm.partition"]),
        (("catalog", "show", "b2"), ["b200"]),
        (("tokenizer", "q"), ["qwen3"]),
    ],
)
def test_names_are_completed(root: Path, words: tuple[str, ...], offered: list[str]) -> None:
    assert completed(*words) == offered


@pytest.mark.parametrize(
    "words",
    [("status",), ("logs",), ("resume",), ("watch",), ("sample",), ("submit", "eval"), ("submit", "--after")],
)
def test_runs_are_completed(root: Path, job: Job, words: tuple[str, ...]) -> None:
    assert completed(*words, "fi") == []
    recorded(root, job("true", run="first"))
    recorded(root, job("true", run="second"))
    assert completed(*words, "fi") == ["first"]


def test_a_link_to_nothing_hides_no_run(root: Path, job: Job) -> None:
    recorded(root, job("true", run="first"))
    (root / "runs/gone").symlink_to("/nowhere")
    assert completed("status", "fi") == ["first"]


def test_a_file_may_take_the_place_of_a_name(root: Path) -> None:
    shell = ShellComplete(group, {}, "jobctl", "_JOBCTL_COMPLETE")
    (item,) = shell.get_completions(["submit", "--model"], "./mi")
    assert (item.type, item.value) == ("file", "./mi")


@pytest.mark.parametrize("words", ["submit --model q", "status a", "submit --set ba"])
def test_a_completion_imports_little(root: Path, words: str) -> None:
    """What a completion takes is its imports: the machine's speed does not count here."""
    environment = {
        "_JOBCTL_COMPLETE": "bash_complete", "COMP_WORDS": f"jobctl {words}",
        "COMP_CWORD": str(len(words.split())), "JOBCTL_ROOT": str(root), "PATH": "/usr/bin:/bin",
    }  # fmt: skip
    program = (
        "import atexit, json, sys; "
        "atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr)); "
        "from jobctl.jobs.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    imported = json.loads(done.stderr)
    packages = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names

    assert {name for name in packages if not name.startswith("_")} <= PACKAGES
    assert len([name for name in imported if name.startswith("jobctl.")]) <= MOST_MODULES
