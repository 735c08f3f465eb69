"""What is right has no findings; what a script silences is not heard."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.slurm.lint import RULES, lint
from jobctl.slurm.script import render
from tests.slurm.lint.good import GOOD, changed, found


def test_a_right_script_has_no_findings() -> None:
    assert lint(GOOD) == []
    assert len(RULES) > 20


@pytest.mark.parametrize("hardware", ["cpu", "b200"])
@pytest.mark.parametrize("nodes", [1, 2])
def test_our_own_scripts_are_right(hardware: str, nodes: int, tmp_path: Path) -> None:
    choices = Choices(
        model="qwen3_smoke",
        target="slurm",
        hardware=hardware,
        run="x",
        named={"nodes": nodes},
        site="example-slurm",
        sets=("cpus_per_task=8",),
    )
    assert lint(render(resolve(choices, version="0", root=str(tmp_path)).spec)) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("train.py &\nwait\nwait\n", "train.py # jobctl-lint: ignore=trap-behind-command\n"),
        ("train.py &\nwait\nwait\n", "train.py # jobctl-lint: ignore=all\n"),
    ],
)
def test_a_comment_silences_a_rule_in_its_line(before: str, after: str) -> None:
    assert found(changed(before, after.partition(" #")[0] + "\n")) == {"trap-behind-command": "error"}
    assert found(changed(before, after)) == {}


def test_a_comment_before_the_first_command_silences_a_rule_everywhere() -> None:
    script = changed("#SBATCH --time=1-00:00:00\n", "# jobctl-lint: ignore=no-time-limit,xtrace\n")
    assert found(script) == {}
    assert found(script.replace("module load", "set -x\nmodule load")) == {}


def test_a_comment_between_commands_silences_the_next_line_alone() -> None:
    script = changed("module load cuda", "# jobctl-lint: ignore=xtrace\nset -x\nmodule load cuda")
    assert found(script) == {}
    assert found(script.replace("ignore=xtrace", "ignore=secret")) == {"xtrace": "hint"}


def test_findings_come_in_the_order_of_lines() -> None:
    script = changed("#SBATCH --job-name=x\n", "#SBATCH --job-name=$X\n").replace("module", "set -x\nmodule")
    assert [finding.rule for finding in lint(script)] == ["unexpanded", "xtrace"]
    assert [finding.line for finding in lint(script)] == [2, 14]
