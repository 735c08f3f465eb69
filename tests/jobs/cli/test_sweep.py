"""``jobctl sweep``: the combinations of a command line, and what a sweep has come to."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.core import layout
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


def test_the_combinations_are_all_of_sharding_recomputation_and_tier(jobctl: Invoke) -> None:
    words = (
        "--set",
        "sharding=zero1,fsdp",
        "--set",
        "activation_checkpointing=none,full",
        "--set",
        "tier=1,3",
    )
    plan = plan_of(jobctl, *H200, "--find-batch", *words)
    assert len(plan["arms"]) == 8
    assert plan["arms"][0]["name"] == "sharding=zero1 activation_checkpointing=none tier=1"
    settings = plan["arms"][-1]["settings"]
    assert settings["activation_checkpointing"] == "full"
    assert settings["use_fsdp"] is True
    assert settings["use_cuda_graphs"] is True
    assert all(arm["guess"] > 1 for arm in plan["arms"])


def test_the_batch_of_a_step_stays_what_it_is(jobctl: Invoke) -> None:
    plan = plan_of(jobctl, *H200, "--set", "batch_size=4,8,12")
    explained = json.loads(
        jobctl("explain", "--model", "qwen3_1.8b", "--hardware", "h200", "--target", "slurm", "--json")[1]
    )
    values = {key: entry["value"] for key, entry in explained["settings"].items()}
    assert plan["sequences"] == values["batch_size"] * values["gradient_accumulation_steps"]
    assert [arm.get("batch_sizes") for arm in plan["arms"]] == [[4], [8], None]
    assert "no multiple of 12" in plan["arms"][2]["problem"]


def test_what_cannot_be_is_said_and_hides_nothing(jobctl: Invoke) -> None:
    words = (
        "sweep",
        "--model",
        "qwen3_1.8b",
        "--hardware",
        "a6000",
        "--target",
        "slurm",
        "--dry-run",
        "--run",
        "s",
    )
    plan = plan_of(jobctl, *words, "--find-batch", "--set", "attention_backend=auto,flash_attn_3")
    assert [arm.get("problem", "") for arm in plan["arms"]] == [
        "",
        "attention_backend flash_attn_3 is for Hopper only, not a6000",
    ]


def test_an_array_has_a_task_a_combination(jobctl: Invoke) -> None:
    code, out, _ = jobctl(*H200, "--array", "--set", "sharding=ddp,zero1,fsdp")
    assert code == 0
    assert "#SBATCH --array=0-2\n" in out
    assert 'LAUNCH+=("--task=$TASK_INDEX")' in out
    assert "--array" not in jobctl(*H200, "--set", "sharding=ddp,zero1,fsdp")[1].partition("# ---")[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "sharding=zero2"], "did you mean 'zero1'?"),
        (["--set", "tier=fast,slow"], "a tier is a number"),
        (["--set", "batch_size=4,x"], "a whole number above 0"),
        (["--set", "batch_size=4,,8"], "a value between the commas is missing"),
        (["--set", "batch_size=4,8", "--find-batch"], "leave one of them out"),
        (["--set", "gradient_accumulation_steps=1,2"], "these follow from batch_size"),
        (["--set", "tier=1", "--set", "tier=2"], "name all values at once"),
        (["--stage", "eval"], "a sweep is of a training"),
        (["--set", "attention_backend=flash_attn_4,x"], "no combination can be"),
        (["--minutes", "0"], "a trial needs some time"),
        (["--array"], "only Slurm has job arrays"),
        (["--set", "dtype=bfloat16,float32", "--set", "batch_sise=4"], "did you mean 'batch_size'?"),
    ],
)
def test_wrong_usage_is_a_message(jobctl: Invoke, root: Path, words: list[str], message: str) -> None:
    code, out, err = jobctl("sweep", "--model", "qwen3_smoke", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert not root.exists()


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
