"""docs/quick-reference.md, executed: no row of the training guide is lost, and each command of ours works.

The real models need GPUs, so what would be submitted is rendered; a smoke model goes all the way.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from jobctl.jobs.cli import jobctl

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs/quick-reference.md"
CODE = re.compile(r"`(jobctl [^`]+)`")
MODELS = (
    "GPT-2 1.36B",
    "LLaMA 2 1.36B",
    "LLaMA 3 Optimal (1.5B)",
    "LLaMA 3 Chinchilla (2.2B)",
    "Qwen3 Optimal (1.8B)",
)
EACH = (
    "prepare.py",
    "smoke test",
    "MFU test",
    "tuning",
    "full training",
    "tail -f",
    "nvidia-smi",
    "--eval_only=True",
)
"""Tasks that the guide has for every model, each by words of its row."""
ONLY = {
    "LLaMA 2 1.36B": (
        "download the tokenizer",
        "tier 1",
        "tier 2",
        "tier 3",
        "memory profiling",
        "analysis",
        "plot_single_run",
    ),
    "LLaMA 3 Optimal (1.5B)": ("download the tokenizer", "627B", "full convergence"),
    "LLaMA 3 Chinchilla (2.2B)": ("download the tokenizer", "627B", "full convergence"),
    "Qwen3 Optimal (1.8B)": (
        "download the tokenizer",
        "627B",
        "tier 1",
        "tier 2",
        "tier 3",
        "memory profiling",
        "analysis",
    ),
    "Troubleshooting": (
        "smaller batch",
        "use_zero1",
        "use_fsdp",
        "block_size",
        "data set",
        "low MFU",
        "learning_rate",
    ),
}
"""Tasks that the guide has in one section."""
ONE_WORKER = pytest.mark.xdist_group("guide")
"""For all that look at one trained run, which each worker would train anew."""
SMOKE = ("--model", "qwen3_smoke", "--hardware", "cpu")


def sections() -> dict[str, list[str]]:
    """Return the rows of the page by their section, without the heads of the tables."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {
        title: [line for line in text.splitlines() if line.startswith("| ") and "---" not in line][1:]
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


def commands() -> list[str]:
    """Return our commands, each once."""
    rows = [row for rows in sections().values() for row in rows]
    return list(dict.fromkeys(command.replace("\\|", "|") for row in rows for command in CODE.findall(row)))


ON_A_RUN = [command for command in commands() if re.search(r"\bR\b", command)]
OF_A_JOB = [command for command in commands() if command not in ON_A_RUN]


@pytest.mark.parametrize("title", MODELS)
@pytest.mark.parametrize("task", EACH)
def test_each_task_of_each_model_has_its_row(title: str, task: str) -> None:
    (row,) = [row for row in sections()[title] if task in row.split(" | ")[0]]
    assert CODE.search(row)


@pytest.mark.parametrize(
    ("title", "task"), [(title, task) for title, tasks in ONLY.items() for task in tasks]
)
def test_a_task_of_one_section_has_its_row(title: str, task: str) -> None:
    assert [row for row in sections()[title] if task in row.split(" | ")[0] and CODE.search(row)]


def environment(root: Path) -> dict[str, str]:
    return {**os.environ, "JOBCTL_ROOT": str(root), "OMP_NUM_THREADS": "1"}


def say(words: list[str], root: Path, *, ok: tuple[int, ...] = (0,)) -> str:
    """Run a command line; return what it prints."""
    command = [sys.executable, "-c", "from jobctl.jobs.cli import main; main()", *words]
    done = subprocess.run(
        command, env=environment(root), cwd=root.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode in ok, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def prepared(words: list[str], folder: Path) -> list[str]:
    """Return a command as it runs on a machine without GPUs: what would be submitted is rendered."""
    if words[0] in ("pipeline", "sweep"):
        return [*words, "--dry-run"]

    return ["render", *words[1:]] if words[0] == "submit" else words


@pytest.mark.parametrize("command", OF_A_JOB)
def test_a_command_for_a_real_model_is_a_job(command: str, tmp_path: Path) -> None:
    words = prepared(shlex.split(command)[1:], tmp_path)
    # A machine and a root without anything have findings.
    out = say(words, tmp_path / "root", ok=(0, 1) if words[0] == "doctor" else (0,))
    assert out


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a prepared corpus and two runs of ten steps, made by the guide's commands for a smoke model."""
    root = tmp_path_factory.mktemp("guide") / "root"
    root.mkdir()
    say(["submit", "prep", "--dataset", "sotu", "--tokenizer", "gpt2", "--wait"], root)
    size = ("--set", "batch_size=1", "--set", "block_size=32", "--set", "processes_per_node=1")
    # R2 is there to be compared with R.
    for run in ("R", "R2"):
        say(["submit", *SMOKE, "--stage", "smoke", "--run", run, "--wait", *size], root)

    return root


@pytest.fixture(scope="module")
def evaluated(root: Path) -> Path:
    """The same, after the jobs on its checkpoint."""
    for kind in ("eval", "export"):
        say(["submit", kind, "R", "--wait"], root)

    return root


@ONE_WORKER
@pytest.mark.parametrize(
    "command", [command for command in ON_A_RUN if "submit" not in command and "resume" not in command]
)
def test_a_command_on_a_run_works_on_a_smoke_model(command: str, evaluated: Path) -> None:
    words = shlex.split(command)[1:]
    extra = ["--once", "--plain"] if words[0] == "watch" else []
    out = say([*words, *extra], evaluated, ok=(0, 1) if words[0] == "doctor" else (0,))
    assert out


@ONE_WORKER
def test_evaluation_and_export_are_finished(evaluated: Path) -> None:
    for kind in ("eval", "export"):
        assert f"R:{kind}: finished" in say(["status", f"R:{kind}"], evaluated)


@ONE_WORKER
def test_a_run_is_made_longer(evaluated: Path) -> None:
    (command,) = [command for command in ON_A_RUN if "resume" in command]
    say([*shlex.split(command)[1:], "--wait"], evaluated)
    assert "step 14 of 14" in say(["status", "R"], evaluated)


def mentioned(page: Path) -> list[list[str]]:
    """Return the command lines of ours that a page shows, in code or in a console."""
    text = page.read_text(encoding="utf-8")
    lines = [*CODE.findall(text), *re.findall(r"^\$ (jobctl .+)$", text, flags=re.MULTILINE)]
    return [shlex.split(line.partition(" > ")[0], comments=True)[1:] for line in lines]


@pytest.mark.parametrize(
    "name", ["first-hour.md", "troubleshooting.md", "quick-reference.md", "catalogue.md"]
)
def test_a_page_names_verbs_and_options_that_there_are(name: str) -> None:
    lines = mentioned(REPOSITORY / "docs" / name)
    assert len(lines) > 5
    for words in lines:
        command: click.Command | None = jobctl.get_command(click.Context(jobctl), words[0])
        if isinstance(command, click.Group) and len(words) > 1:
            command = command.get_command(click.Context(command), words[1])

        assert command is not None, words
        known = {option for parameter in command.params for option in parameter.opts}
        given = {word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word)}
        assert given <= known | {"--help", "--version"}, words
