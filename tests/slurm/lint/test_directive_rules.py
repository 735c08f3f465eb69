"""Mistakes in what a script asks of Slurm."""

from __future__ import annotations

import pytest

from jobctl.slurm.lint import lint
from tests.slurm.lint.good import GOOD, changed, found

MEMORY = "#SBATCH --mem=1G\n#SBATCH --mem-per-cpu=1G\n"


@pytest.mark.parametrize(
    ("before", "after", "rule", "severity"),
    [
        ("#!/bin/bash\n", "", "shebang", "error"),
        ("#SBATCH --time", "set -e\n#SBATCH --time", "late-directive", "error"),
        ("--job-name=x", '--job-name="$USER-x"', "unexpanded", "error"),
        ("--job-name=x", "--job-name=`date`", "unexpanded", "error"),
        ("--job-name=x", "--job-name = x", "space-around-equals", "error"),
        ("#SBATCH --job-name=x\n", MEMORY, "memory-twice", "error"),
        ("--job-name=x", "--array=1-9 --output=log", "one-file-for-all", "error"),
        ("--job-name=x", "--array=1-9 --output=%x-%A.log", "one-file-for-all", "error"),
        ("--job-name=x", "--output=logs/%x/%j.out", "output-folder", "warning"),
        ("#SBATCH --kill-on-invalid-dep=yes\n", "", "orphaned-dependency", "hint"),
        ("#SBATCH --job-name=x\n", "# SBATCH --qos=x\n", "space-in-directive", "hint"),
        ("--job-name=x", "--exclusive", "memory-left", "hint"),
        ("#SBATCH --time=1-00:00:00\n", "", "no-time-limit", "hint"),
    ],
)
def test_one_mistake_is_one_finding(before: str, after: str, rule: str, severity: str) -> None:
    assert found(changed(before, after)).get(rule) == severity


def test_lines_as_on_windows_are_refused_by_sbatch() -> None:
    assert found(GOOD.replace("\n", "\r\n")) == {"crlf": "error"}


@pytest.mark.parametrize(
    "after",
    [
        "--array=1-9 --output=%x-%j.out",
        "--array=1-9 --output=%A_%a.out",
        "--array=1-9 --output=/dev/null",
        "--array=1-9",
        "--array=3 --output=log",
        "--mail-user=a$",
        "--output=logs/%j.out",
    ],
)
def test_what_is_right_is_no_finding(after: str) -> None:
    assert found(changed("--job-name=x", after)) == {}


def test_a_folder_that_the_script_makes_is_made_too_late() -> None:
    script = changed("--job-name=x", "--output=logs/%j.out").replace("module", "mkdir -p logs\nmodule")
    (finding,) = lint(script)
    assert (finding.line, finding.rule, finding.fix) == (2, "output-folder", "mkdir -p logs before sbatch")


@pytest.mark.parametrize(
    "text",
    [
        "#!/usr/bin/perl\n#SBATCH --time=1\nprint 1;\n#SBATCH --mem=1\n",
        "gen() {\ncat <<EOF\n#SBATCH --mem=1\nEOF\n}\n#SBATCH --time=1\n",
    ],
)
def test_a_script_that_is_none_of_ours_is_left_alone(text: str) -> None:
    assert "late-directive" not in found(text)
    assert "shebang" not in found(text)
