"""The commands of the first hour and of troubleshooting, run by a person who has a run ``R`` and no cluster.

What would be submitted is shown and not started. A page that gets a new command runs it here without a change.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs.spec.job_spec import JobSpec
from tests.jobs.cli.test_cli import Invoke, jobctl
from tests.jobs.cli.test_removal import ended
from tests.jobs.monitoring.runs import start_line, training_lines, write_log

__all__ = ["jobctl"]

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGES = ("first-hour.md", "troubleshooting.md")
COMMAND = re.compile(r"`(jobctl [^`]+)`|^\$ (jobctl .+)$", re.MULTILINE)
WORDS = {
    "M": "qwen3_1.8b",
    "H": "b200",
    "D": "sotu",
    "T": "gpt2",
    "FILE": "mycluster.yaml",
    "KEY=VALUE": "log_interval=5",
}
"""What stands for a name on the pages."""
NAMES_ALONE = ("watch", "sample", "exporter", "fit", "wait", "submit", "pipeline", "site")
"""Verbs that the pages name without their arguments; ``--help`` shows that there are such."""
WANTS_A_CLUSTER = ("site", "nodes")
WANTS_MORE_THAN_A_LOG = {
    "jobctl submit --model qwen3_1.8b --hardware a6000 --target local": "two GPUs, as the page says",
    "jobctl pipeline --dry-run": "the project file of the line before it, which names the model",
    "jobctl resume R": "a run that has steps left",
    "jobctl resume R --set KEY=VALUE": "a run that has steps left",
    "jobctl cancel R": "a run that goes on",
}
"""Commands that may end with a message here: what they want."""


def shown(page: str) -> list[str]:
    """Return the commands of a page, each once."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = ["".join(groups).partition(" > ")[0] for groups in COMMAND.findall(text)]
    return list(dict.fromkeys(found))


def as_run_here(command: str) -> list[str]:
    """Return the words of a command with real names; what would start or ask something only shows it."""
    words = [WORDS.get(word, word) for word in shlex.split(command, comments=True)[1:]]
    verb = words[0]
    # A sample imports torch, for seconds; its tests draw one.
    if verb == "sample" or (len(words) == 1 and verb in NAMES_ALONE):
        return [verb, "--help"]

    if verb == "submit" and "--target" not in words:
        return [*words, "--dry-run"]

    if verb == "sweep":
        return [*words, "--dry-run"]

    return [*words, "--yes"] if verb in ("delete", "prune") else words


@pytest.mark.parametrize(("page", "command"), [(page, command) for page in PAGES for command in shown(page)])
def test_a_shown_command_runs(
    page: str, command: str, jobctl: Invoke, root: Path, job: Callable[..., JobSpec]
) -> None:
    lines = [start_line("R", model="qwen3_smoke"), *training_lines(range(1, 21))]
    write_log(
        ended(job, "R", "echo a line").path, [*lines, {"kind": "summary", "iter": 20, "status": "finished"}]
    )

    Path("mycluster.yaml").write_text(jobctl("catalog", "show", "example-slurm")[1])

    code, out, err = jobctl(*as_run_here(command))

    assert "Traceback" not in out + err
    verb = command.split()[1]
    if verb in WANTS_A_CLUSTER or command in WANTS_MORE_THAN_A_LOG:
        # Whoever lacks something reads what it is.
        assert code == 0 or err.startswith("jobctl: "), (code, out, err)
    else:
        assert code in ((0, 1) if verb == "doctor" else (0,)), (code, out, err)
        assert out + err
