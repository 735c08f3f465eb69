"""Of all exit codes, which one led to the others: one table, and the same answer in Python and in bash."""

from __future__ import annotations

import itertools
import signal
import subprocess
from pathlib import Path

import pytest

from jobctl.jobs.core import exit_codes
from jobctl.jobs.core.exit_codes import CODES, cause, code_of, rank_of
from jobctl.jobs.render import render_template, shell_functions

CASES = sorted({*(row.code for row in CODES), 3, 127, 137, 139, 192, 193, 255})
"""All codes of the table, and some that are outside it."""


def bash(commands: str, *arguments: str) -> str:
    """What these commands print in a shell that has the table and its functions."""
    table = render_template("job/exit_codes.sh.j2", {})
    script = f"set -euo pipefail\n{table}{shell_functions('exit_codes')}{commands}"
    done = subprocess.run(
        ["bash", "-c", script, "bash", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_pair_has_the_same_cause_in_bash_and_in_python(tmp_path: Path) -> None:
    for code in CASES:
        (tmp_path / str(code)).write_text(f"{code}\n")
    pairs = list(itertools.product(CASES, repeat=2))
    walk = 'while read -r a b; do cause 0 "$1/$a" "$1/$b"; done'
    lines = "".join(f"{a} {b}\n" for a, b in pairs)
    answers = bash(f"{walk} <<<'{lines.strip()}'", str(tmp_path)).split()
    assert [int(answer) for answer in answers] == [cause(pair) for pair in pairs]


@pytest.mark.parametrize(
    ("codes", "right"),
    [
        ((1, 2), 2),
        ((137, 2), 2),
        ((201, 2), 2),  # the node is bad as well, but no retry would help
        ((139, 201), 201),
        ((3, 137), 137),
        ((134, 3), 3),  # NCCL's watchdog aborts whoever has lost a peer
        ((200, 134), 134),
        ((75, 200), 200),
        ((1, 200), 200),  # the checkpoint was written before the failure
        ((1, 75), 75),
        ((143, 1), 1),
        ((0, 143), 143),
    ],
)
def test_the_cause_comes_before_its_consequences(codes: tuple[int, int], right: int) -> None:
    assert cause(codes) == right
    assert cause(reversed(codes)) == right


def test_of_equal_codes_the_first_is_the_cause() -> None:
    assert cause([139, 137]) == 139
    assert cause([137, 139]) == 137


def test_a_signal_is_128_and_its_number() -> None:
    assert code_of(-signal.SIGKILL) == 137
    assert code_of(201) == 201
    assert rank_of(code_of(-signal.SIGSEGV)) == exit_codes.SIGNAL_RANK


@pytest.mark.parametrize(
    ("scheduler", "codes", "right"),
    [
        (0, [0, 0], 0),
        (0, [200, 200], 200),  # a task's 200 is a 0 to srun
        (137, [1, 137], 137),
        (1, [137, 1], 137),
        (139, [1, 139, 143], 139),
        (201, [1, 201], 201),
        (2, [1, 2], 2),
        (1, [1, 143], 1),
        (137, [1], 1),  # the other one hung, and had to be killed
        (137, [143], 137),  # the other one was killed without a word, and srun ended this one
        (137, [0], 137),
        (1, [], 1),
        (0, [143], 143),  # srun answers 0 for a step that Slurm has ended
        (143, [200, 143], 200),
    ],
)
def test_the_schedulers_own_code_counts_where_no_node_says_more(
    scheduler: int, codes: list[int], right: int, tmp_path: Path
) -> None:
    files = [tmp_path / f"exit-n{number}" for number in range(len(codes))]
    for file, code in zip(files, codes, strict=True):
        file.write_text(f"{code}\n")
    words = [str(file) for file in files] or [str(tmp_path / "exit-*")]
    assert int(bash('cause "$@"', str(scheduler), *words)) == right


def test_a_file_that_holds_no_number_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x[$(touch pwned)]\n\n-1\n")
    assert int(bash('cd "${2%/*}"; cause "$@"', "137", str(tmp_path / "a"))) == 137
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("code", "words", "reason"),
    [
        (0, "", "finished"),
        (2, "", "configuration"),
        (75, "", "busy"),
        (201, "", "hardware"),
        (130, "", "cancelled"),
        (137, "", "failed"),
        (255, "", "failed"),
        (200, "", "stopped"),
        (200, "time limit\ncancel", "cancelled"),
        (137, "cancel", "cancelled"),  # killed before it could say anything
        (1, "cancel", "failed"),
    ],
)
def test_an_attempts_reason_is_that_of_its_code(code: int, words: str, reason: str, tmp_path: Path) -> None:
    stop = tmp_path / "STOP"
    stop.write_text(words)
    assert bash(f"STOP={stop}; reason {code}") == f"{reason}\n"
