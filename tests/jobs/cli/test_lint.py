"""``jobctl lint`` reads a script byte by byte, and its exit code tells mistakes from advice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.jobs.cli.test_cli import Invoke, jobctl

__all__ = ["jobctl"]

RIGHT = "#!/bin/bash\n#SBATCH --time=1:00\n"


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (f"{RIGHT}true\n", 0, "no mistakes"),
        ("#!/bin/bash\n#SBATCH --nodes=1\ntrue\n", 0, ":0: hint: without a time limit"),
        (f"{RIGHT}#SBATCH --cpus-per-task=4\nsrun ./x\n", 1, ":4: warning: since Slurm 22.05"),
        (f"{RIGHT}true\n#SBATCH --mem=1\n", 1, ":4: error: comes after a command"),
        (RIGHT.replace("\n", "\r\n"), 1, ":1: error: the lines end as on Windows"),
    ],
)
def test_mistakes_end_with_1_and_advice_with_0(
    jobctl: Invoke, tmp_path: Path, text: str, code: int, said: str
) -> None:
    script = tmp_path / "job.sbatch"
    script.write_bytes(text.encode())
    status, out, _ = jobctl("lint", str(script))
    assert status == code
    assert said in out


@pytest.mark.parametrize(
    ("content", "code"),
    [(bytes(range(256)), 1), (f"{RIGHT}# caf\xe9\n".encode("latin-1"), 0), (b"\x00" * 100, 1)],
)
def test_bytes_that_are_no_text_are_read_all_the_same(
    jobctl: Invoke, tmp_path: Path, content: bytes, code: int
) -> None:
    script = tmp_path / "job.sbatch"
    script.write_bytes(content)
    status, _, err = jobctl("lint", str(script))
    assert (status, err) == (code, "")


def test_findings_are_printed_as_json(jobctl: Invoke, tmp_path: Path) -> None:
    script = tmp_path / "job.sbatch"
    script.write_text(f"{RIGHT}#SBATCH --job-name=$X\n")
    status, out, _ = jobctl("lint", "--json", str(script))
    (finding,) = json.loads(out)
    assert (status, finding["rule"], finding["severity"], finding["line"]) == (1, "unexpanded", "error", 3)
