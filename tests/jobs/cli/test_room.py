"""A job that cannot fit is refused before it is submitted; ``batch_size=auto`` makes one fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobctl.jobs.cli import estimating, room
from jobctl.jobs.cli.choices import resolution
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.job_spec import TrainSpec
from jobctl.jobs.spec.resolution import Choices
from tests.jobs.cli.test_cli import Invoke, jobctl, payload

__all__ = ["jobctl", "payload"]

LARGE = ("render", "--model", "qwen3_1.8b", "--hardware", "a6000", "--set", "batch_size=20")


def test_render_prints_the_estimate_beside_the_script(jobctl: Invoke) -> None:
    code, out, err = jobctl("render", "--model", "qwen3_1.8b", "--hardware", "h200")
    assert code == 0
    assert out.startswith("#!/bin/bash")
    assert "jobctl: estimate: 94.4 of 139.1 GiB a rank" in err
    assert "GPU-hours" in err
    assert "estimate" not in out


def test_what_cannot_fit_is_refused_unless_it_is_forced(jobctl: Invoke) -> None:
    code, out, err = jobctl(*LARGE)
    assert code == 2
    assert out == ""
    assert "--set batch_size=6 is the largest that fits" in err
    code, out, _ = jobctl(*LARGE, "--force")
    assert code == 0
    assert "batch_size=20" in out


def test_a_large_model_on_a_small_machine_starts_nothing(
    jobctl: Invoke, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimating, "host_gib_free", lambda: 22.0)
    code, _, err = jobctl("submit", "--model", "qwen3_1.8b", "--hardware", "cpu", "--target", "local")
    assert code == 2
    assert "GiB a rank, and a rank of cpu has 10.9" in err
    assert not (root / "runs").exists()


def test_a_smoke_model_is_let_through(jobctl: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimating, "host_gib_free", lambda: 4.0)
    code, _, err = jobctl("render", "--model", "qwen3_smoke")
    assert code == 0
    assert "of 2.0 GiB a rank" in err


def test_a_pipeline_is_refused_before_hours_of_tokenizing(jobctl: Invoke, root: Path) -> None:
    words = ("--model", "qwen3_1.8b", "--hardware", "a6000", "--target", "slurm", "--set", "batch_size=20")
    code, _, err = jobctl("pipeline", *words, "--dry-run")
    assert code == 2
    assert "needs 99.7 GiB a rank" in err
    assert jobctl("pipeline", *words, "--dry-run", "--force")[0] == 0
    assert not root.exists()


@pytest.mark.parametrize("words", [("--stage", "sweep"), ("--stage", "eval", "--run", "r")])
def test_a_sweep_and_an_evaluation_are_not_refused(jobctl: Invoke, words: tuple[str, ...]) -> None:
    code, _, err = jobctl(*LARGE, *words)
    assert code == 0
    assert "GiB a rank" not in err


def test_auto_takes_what_fits_and_keeps_the_global_batch(jobctl: Invoke) -> None:
    base = ("explain", "--model", "llama3_2.2b", "--hardware", "h200", "--json")
    before = json.loads(jobctl(*base)[1])
    after = json.loads(jobctl(*base, "--set", "batch_size=auto")[1])
    assert after["derived"]["global_batch_size"] == before["derived"]["global_batch_size"]
    assert after["settings"]["batch_size"] == {"value": 16, "from": "--set"}

    # 15 · 8 sequences have larger divisors: 20 fits, and 24 does not.
    wide = json.loads(jobctl(*base, "--set", "gradient_accumulation_steps=30", "--set", "batch_size=auto")[1])
    assert wide["settings"]["batch_size"]["value"] == 20
    assert wide["settings"]["gradient_accumulation_steps"]["value"] == 24


def test_auto_says_so_where_nothing_fits(jobctl: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimating, "host_gib_free", lambda: 8.0)
    code, _, err = jobctl("render", "--model", "qwen3_1.8b", "--hardware", "cpu", "--set", "batch_size=auto")
    assert code == 2
    assert "not even one sequence fits" in err


def test_auto_is_for_trainings(jobctl: Invoke) -> None:
    code, _, err = jobctl("render", "tokenizer", "--tokenizer", "gpt2", "--set", "batch_size=auto")
    assert code == 2
    assert "only a training has a batch" in err


def test_auto_resolves_twice_and_passes_the_other_sets_on() -> None:
    asked: list[tuple[str, ...]] = []

    def find(choices: Choices) -> object:
        asked.append(choices.sets)
        return resolution(
            words=(),
            run=None,
            **dict.fromkeys(
                (
                    "stage",
                    "site",
                    "nodes",
                    "gpus_per_node",
                    "image",
                    "dataset",
                    "tokenizer",
                    "context",
                    "namespace",
                )
            ),
            model="qwen3_1.8b",
            hardware="h200",
            tier=1,
            target="slurm",
            after=(),
            patch=False,
            sets=choices.sets,
        )

    choices = Choices(model="qwen3_1.8b", sets=("seed=1", "batch_size=auto"))
    resolved = room.resolve_with_auto(choices, find)  # type: ignore[arg-type]
    assert isinstance(resolved.spec, TrainSpec)
    assert asked == [("seed=1",), ("seed=1", "batch_size=16", "gradient_accumulation_steps=8")]
    assert resolved.spec.train.seed == 1


def test_check_room_raises_what_a_user_can_read() -> None:
    options = dict.fromkeys(
        ("stage", "site", "nodes", "gpus_per_node", "image", "dataset", "tokenizer", "context", "namespace")
    )
    resolved = resolution(
        words=(),
        run=None,
        **options,
        model="qwen3_1.8b",
        hardware="a6000",
        tier=1,
        target="slurm",
        after=(),
        patch=False,
        sets=("batch_size=20",),
    )
    with pytest.raises(UserError, match=r"a rank of a6000 has 47\.0"):
        room.check_room(resolved, force=False)


def test_doctor_says_what_published_rules_say_of_the_rate(jobctl: Invoke) -> None:
    words = ("doctor", "--model", "llama3_1.5b", "--hardware", "h200", "--target", "slurm")
    _, _, err = jobctl(*words)
    assert "learning_rate 0.0003 is 2.5 to 5.4 times below what StepLaw and DeepSeek LLM say" in err
    assert "StepLaw" not in jobctl(*words, "--set", "learning_rate=1e-3")[2]
