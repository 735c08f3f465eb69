"""The shell completes what there is to choose from, and quickly."""

from __future__ import annotations

import resource
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
LONGEST_SECONDS = 0.2


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


def test_a_file_may_take_the_place_of_a_name(root: Path) -> None:
    shell = ShellComplete(group, {}, "jobctl", "_JOBCTL_COMPLETE")
    (item,) = shell.get_completions(["submit", "--model"], "./mi")
    assert (item.type, item.value) == ("file", "./mi")


@pytest.mark.parametrize("words", ["submit --model q", "status a", "submit --set ba"])
def test_a_completion_is_quick(root: Path, words: str) -> None:
    """In seconds of the processor: a busy machine is no failure."""
    environment = {
        "_JOBCTL_COMPLETE": "bash_complete", "COMP_WORDS": f"jobctl {words}",
        "COMP_CWORD": str(len(words.split())), "JOBCTL_ROOT": str(root), "PATH": "/usr/bin:/bin",
    }  # fmt: skip
    command = [sys.executable, "-c", "from jobctl.jobs.cli import main; main()"]
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=environment, capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime)

    assert min(times) < LONGEST_SECONDS
