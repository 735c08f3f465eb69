"""``jobctl pipeline`` on a target without a queue: jobctl waits, and submits the next."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs import supplies
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.pipeline import plan
from tests.jobs.cli.test_cli import Invoke, jobctl, payload

__all__ = ["jobctl", "payload"]

Payload = Callable[[str], str]
PIPELINE = ("pipeline", "--model", "qwen3_smoke", "--run", "p")
RECORD_STEPS = (
    'echo "$2" >>"$JOBCTL_ROOT/steps"; [ "$2" != jobctl.prep ] || { mkdir -p "$JOBCTL_ROOT/datasets/sotu-gpt2" &&'
    ' echo \'{"vocab_size": 50257}\' >"$JOBCTL_ROOT/datasets/sotu-gpt2/meta.json"; }'
)
"""What a pipeline's jobs do here: say that they were called, and prep makes what a training reads."""


OPTIONS = {
    "words": (), "run": "p", "model": "llama2_1.36b", "hardware": "h100", "nodes": 2, "gpus_per_node": 4,
    "tier": 1, "stage": None, "target": "slurm", "site": None, "after": (), "sets": ("preflight=report",),
    "image": None, "patch": False, "dataset": None, "tokenizer": None, "context": None, "namespace": None,
}  # fmt: skip
"""The options of the command line, as click gives them."""


def steps(root: Path) -> list[str]:
    return (root / "steps").read_text().split()


def test_every_step_runs_once_and_in_order(jobctl: Invoke, root: Path, payload: Payload) -> None:
    code, out, err = jobctl(*PIPELINE, "--wait", payload(RECORD_STEPS))
    assert code == 0, err
    assert steps(root) == [
        "jobctl.prep.fetch", "jobctl.prep", "jobctl.trainer.preflight",
        "jobctl.trainer.launch", "jobctl.trainer.launch", "jobctl.trainer.export",
    ]  # fmt: skip
    names = ("p-train", "p-train:eval", "p-train:export")
    assert [a.step for name in names for a in runs.read(root, name).attempts] == ["train", "eval", "export"]
    assert out.count("finished") == 6
    code, _, _ = jobctl(*PIPELINE, "--wait", payload(RECORD_STEPS))
    assert code == 0
    assert len(steps(root)) == 6, "what is done is not done again"


def test_it_stops_at_a_step_that_fails_and_goes_on_from_there(
    jobctl: Invoke, root: Path, payload: Payload
) -> None:
    body = f'{RECORD_STEPS}; [ "$2" != jobctl.trainer.launch ] || [ -e "$JOBCTL_ROOT/mended" ] || exit 7'
    code, _, err = jobctl(*PIPELINE, "--wait", payload(body))
    assert code == 7
    assert "train: p-train: failed" in err
    assert steps(root)[-1] == "jobctl.trainer.launch"
    code, out, _ = jobctl("status", "p")
    assert code == 0
    assert [line.split()[2] for line in out.splitlines()[1:]] == [
        *["finished"] * 3, "failed", "-", "-",
    ]  # fmt: skip
    (root / "mended").touch()
    assert jobctl(*PIPELINE, "--wait", payload(body))[0] == 0
    assert steps(root)[4:] == ["jobctl.trainer.launch", "jobctl.trainer.launch", "jobctl.trainer.export"]


def test_without_a_queue_it_must_wait(jobctl: Invoke, root: Path) -> None:
    code, _, err = jobctl(*PIPELINE)
    assert code == 2
    assert "add --wait" in err
    assert not root.exists()


def test_a_dry_run_shows_the_steps_and_makes_nothing(jobctl: Invoke, root: Path) -> None:
    code, out, _ = jobctl(*PIPELINE, "--dry-run", "--skip", "eval", "--json")
    assert code == 0
    assert [step["name"] for step in json.loads(out)["steps"]] == [
        "tokenizer", "prep", "preflight", "train", "export",
    ]  # fmt: skip
    assert not root.exists()


def test_each_step_is_the_job_that_it_would_be_by_itself(jobctl: Invoke, root: Path) -> None:
    """A data set and a tokenizer follow from the model; GPUs are for those that compute."""
    from jobctl.jobs.cli.pipeline import specs_of

    found = {spec.step: spec for spec in specs_of("p", (), 3, OPTIONS).values()}
    assert [found[step].resources.nodes for step in ("prep", "preflight", "train", "export")] == [3, 2, 2, 1]
    assert [found[step].resources.gpus_per_node for step in ("prep", "preflight", "eval")] == [0, 4, 4]
    assert {spec.inputs.tokenizer for spec in found.values()} == {"llama2"}


def test_text_of_the_hub_is_fetched_by_a_step_and_text_of_a_package_is_not(
    jobctl: Invoke, root: Path
) -> None:
    words = ("pipeline", "--target", "slurm", "--dry-run", "--json")
    for model, has_step in (("qwen3_1.8b", True), ("qwen3_smoke", False)):
        out = jobctl(*words, "--model", model, "--run", "p")[1]
        assert ("mirror" in [step["name"] for step in json.loads(out)["steps"]]) == has_step


def test_nothing_is_queued_where_the_disk_is_too_small(
    jobctl: Invoke, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supplies, "free_bytes", lambda folder: 10**9)
    words = ("pipeline", "--model", "qwen3_1.8b", "--target", "slurm", "--run", "p")
    code, _, err = jobctl(*words)
    assert code == 2
    assert "has 1.00 GB free, and the jobs write about 38.20 GB" in err
    assert not root.exists()


def test_an_ended_pipeline_is_not_cancelled(jobctl: Invoke, root: Path, payload: Payload) -> None:
    jobctl(*PIPELINE, "--wait", payload("true"))
    code, _, err = jobctl("cancel", "p")
    assert code == 1
    assert "has ended already" in err


def test_each_job_of_a_chain_knows_the_one_before_it(jobctl: Invoke, root: Path) -> None:
    from jobctl.jobs.cli.pipeline import specs_of

    after = {step.name: step.after for step in plan("p").steps}
    specs = specs_of("p", (), 1, OPTIONS | {"after": ("data",)}, after)
    assert {name: spec.after for name, spec in specs.items()} == {
        "tokenizer": ("data",),
        "mirror": ("p-tokenizer",),
        "prep": ("p-mirror",),
        "preflight": ("p-prep",),
        "train": ("p-preflight",),
        "eval": ("p-train",),
        "export": ("p-train:eval",),
    }
