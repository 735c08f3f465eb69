"""The combinations of a sweep: which keys vary, what each combination changes, and what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobctl.jobs.cli.sweeping import split_axes
from tests.jobs.cli.test_cli import Invoke, jobctl, payload
from tests.jobs.cli.test_sweep import H200, plan_of

__all__ = ["jobctl", "payload"]


def test_a_key_with_several_values_varies_and_the_others_are_shared() -> None:
    shared, axes = split_axes(("dtype=bfloat16", "learning_rate = 1e-3, 2e-3", "kernels=plain"))
    assert shared == ["dtype=bfloat16", "kernels=plain"]
    assert axes == [("learning_rate", ("1e-3", "2e-3"))]


@pytest.mark.parametrize("word", ["tier=3", "sharding=fsdp"])
def test_a_key_that_is_no_setting_varies_also_with_one_value(word: str) -> None:
    """The trainer knows neither, so neither may be shared as a setting."""
    key, _, value = word.partition("=")
    assert split_axes((word,)) == ([], [(key, (value,))])


@pytest.mark.parametrize(
    "word",
    [
        "sweep_batch_sizes=[1,2]",
        'dtype="a,b"',
        "env={A: 1, B: 2}",
        "exclude=node-1,node-2",
        "learning_rate",
    ],
)
def test_one_value_with_commas_in_it_stays_one(word: str) -> None:
    assert split_axes((word,)) == ([word], [])


def test_a_value_that_is_named_twice_is_tried_once() -> None:
    assert split_axes(("batch_size=4,8,4",))[1] == [("batch_size", ("4", "8"))]


def test_the_order_of_the_words_is_the_order_of_the_keys() -> None:
    """The first key varies slowest, as the table of results shows it."""
    _, axes = split_axes(("use_fp8=true,false", "tier=1,2"))
    assert [key for key, _ in axes] == ["use_fp8", "tier"]


def test_too_many_combinations_are_refused_with_their_number(jobctl: Invoke) -> None:
    rates = ",".join(f"{number}e-5" for number in range(1, 258))
    code, _, err = jobctl(*H200, "--set", f"learning_rate={rates}")
    assert (code, "257 combinations are too many" in err) == (2, True)


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
    assert "not a multiple of 12" in plan["arms"][2]["problem"]


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "sharding=zero2"], "did you mean 'zero1'?"),
        (["--set", "tier=fast,slow"], "a tier is a number"),
        (["--set", "batch_size=4,x"], "a whole number above 0"),
        (["--set", "batch_size=4,,8"], "a value is missing between the commas"),
        (["--set", "batch_size=4,8", "--find-batch"], "leave one of them out"),
        (["--set", "gradient_accumulation_steps=1,2"], "so it computes this value from batch_size"),
        (["--set", "tier=1", "--set", "tier=2"], "name all values at once"),
        (["--stage", "eval"], "a sweep tries trainings"),
        (["--set", "attention_backend=flash_attn_4,x"], "no combination is possible"),
        (["--minutes", "0"], "a trial needs more time"),
        (["--array"], "only Slurm has job arrays"),
        (["--set", "dtype=bfloat16,float32", "--set", "batch_sise=4"], "did you mean 'batch_size'?"),
    ],
)
def test_wrong_usage_is_a_message(jobctl: Invoke, root: Path, words: list[str], message: str) -> None:
    code, out, err = jobctl("sweep", "--model", "qwen3_smoke", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert not root.exists()
