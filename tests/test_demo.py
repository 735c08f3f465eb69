"""The README's first command, whole: real text, a real tokenizer, two processes, and a loss that falls."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def make_demo(root: Path) -> subprocess.CompletedProcess[str]:
    """``make demo`` in this interpreter's environment, without installing it anew."""
    venv = sys.prefix
    return subprocess.run(
        ["make", "-C", str(REPOSITORY), "-o", f"{venv}/.run", "demo", f"VENV={venv}"],
        env={**os.environ, "JOBCTL_ROOT": str(root)}, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip


def test_the_demo_tokenizes_trains_and_says_what_came_of_it(tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    answer = make_demo(root)
    assert answer.returncode == 0, answer.stderr
    losses = re.search(r"training loss +([\d.]+) first, ([\d.]+) mean of the last steps", answer.stdout)
    assert losses is not None
    assert float(losses[1]) - float(losses[2]) > 3
    assert "tokens/s" in answer.stdout
    assert "jobctl logs" in answer.stdout

    assert json.loads((root / "datasets/sotu-gpt2/meta.json").read_text())["vocab_size"] == 50257
    (run,) = (root / "runs").glob("qwen3_smoke-train-*")
    assert json.loads((run / "run.json").read_text())["spec"]["model_name"] == "qwen3_smoke"
    assert json.loads((run / "attempts/1.json").read_text())["exit_code"] == 0
    assert (run / "checkpoints" / (run / "checkpoints/LATEST").read_text().strip()).is_dir()
    assert sorted(path.name for path in (run / "logs/1").glob("*.log")) == [
        "batch.log", "rank-00000.log", "rank-00001.log",
    ]  # fmt: skip
    iterations = [
        json.loads(line)
        for path in (run / "metrics").glob("*.jsonl")
        for line in path.read_text().splitlines()
        if '"kind":"iteration"' in line.replace(" ", "")
    ]
    assert [record["iter"] for record in iterations] == list(range(1, 101))

    again = subprocess.run(
        [f"{sys.prefix}/bin/jobctl", "submit", "prep", "--dataset", "sotu", "--tokenizer", "gpt2", "--wait"],
        env={**os.environ, "JOBCTL_ROOT": str(root)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (again.returncode, "exists already; nothing to do" in again.stdout) == (0, True)
