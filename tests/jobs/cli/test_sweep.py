"""``jobctl sweep``: the combinations of a command line, and what a sweep has come to."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.core import layout
from jobctl.jobs.sweeping.page import RESULT
from jobctl.jobs.sweeping.plan import Outcome, Trial
from jobctl.jobs.sweeping.results import write_outcome
from tests.jobs.cli.test_cli import Invoke, jobctl, payload
from tests.jobs.test_submission import write_meta

__all__ = ["jobctl", "payload"]
H200 = (
    "sweep",
    "--model",
    "qwen3_1.8b",
    "--hardware",
    "h200",
    "--target",
    "slurm",
    "--run",
    "s",
    "--dry-run",
)


def plan_of(jobctl: Invoke, *words: str) -> dict[str, Any]:
    code, out, err = jobctl(*words)
    assert code == 0, err
    (line,) = [line for line in out.splitlines() if line.startswith("JOB_SWEEP=")]
    (text,) = shlex.split(line.removeprefix("JOB_SWEEP="))
    plan: dict[str, Any] = json.loads(text)
    return plan


def test_an_array_has_a_task_a_combination(jobctl: Invoke) -> None:
    code, out, _ = jobctl(*H200, "--array", "--set", "sharding=ddp,zero1,fsdp")
    assert code == 0
    assert "#SBATCH --array=0-2\n" in out
    assert 'LAUNCH+=("--task=$TASK_INDEX")' in out
    assert "--array" not in jobctl(*H200, "--set", "sharding=ddp,zero1,fsdp")[1].partition("# ---")[0]


def test_a_sweep_is_shown_and_its_settings_are_taken_by_a_project_file(
    jobctl: Invoke,
    root: Path,
    payload: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_meta(root)
    words = ("sweep", "--model", "qwen3_smoke", "--run", "s", "--set", "sharding=ddp,zero1", "--find-batch")
    code, out, err = jobctl(*words, payload("exit 0"))
    assert (code, "submitted sweep s" in out) == (0, True), err
    jobctl("wait", "s")
    assert "nothing was measured" in jobctl("sweep", "s")[1]

    trial = Trial(arm=1, batch_size=2, purpose="time")
    done = Outcome(
        trial=trial, attempt=1, status="fits", gradient_accumulation_steps=2, tokens_per_second=9.0
    )
    write_outcome(layout.run_dir(root, "s"), done)
    shown = jobctl("sweep", "s")[1]
    told = json.loads(jobctl("sweep", "s", "--json")[1])
    assert told["fastest"] == {"use_zero1": True, "batch_size": 2, "gradient_accumulation_steps": 2}

    snippet = shown[shown.index("settings:") : shown.index("\nthe same")]
    monkeypatch.chdir(tmp_path)
    Path("jobctl.yaml").write_text(snippet)
    in_file = json.loads(jobctl("explain", "--model", "qwen3_smoke", "--json")[1])
    Path("jobctl.yaml").unlink()
    flags = shown.partition("command line: ")[2].splitlines()[0].split()
    on_line = json.loads(jobctl("explain", "--model", "qwen3_smoke", "--json", *flags)[1])
    for key, value in told["fastest"].items():
        assert in_file["settings"][key]["value"] == on_line["settings"][key]["value"] == value


def test_another_run_is_no_sweep(jobctl: Invoke, root: Path, payload: Callable[[str], str]) -> None:
    write_meta(root)
    jobctl("submit", "--model", "qwen3_smoke", "--run", "r", payload("exit 0"))
    code, _, err = jobctl("sweep", "r")
    assert (code, "run r is no sweep" in err) == (1, True)
    assert "no run 'x'" in jobctl("sweep", "x")[2]


def test_a_user_who_waits_gets_the_table_once(
    jobctl: Invoke, root: Path, payload: Callable[[str], str]
) -> None:
    """The job prints it too, for readers of its log."""
    write_meta(root)
    words = ("sweep", "--model", "qwen3_smoke", "--set", "sharding=ddp,zero1", "--find-batch")
    job = payload(f"echo before; echo '{RESULT}'; echo 'setting  largest  of the job'; exit 0")
    code, out, err = jobctl(*words, "--run", "s", "--wait", job)
    assert code == 0, err
    assert (out.count("setting "), err.count("setting ")) == (1, 0)
    assert "before" in err
    assert "of the job" in jobctl("logs", "s")[1]

    # Over ssh a sweep and the wait for it are two commands.
    assert jobctl(*words, "--run", "t", job)[0] == 0
    code, out, err = jobctl("wait", "t")
    assert (code, out.count("setting "), err.count("setting ")) == (0, 1, 0), err
    assert "setting " not in jobctl("wait", "t", "--json")[1]
