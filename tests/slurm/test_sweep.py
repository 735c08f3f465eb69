"""A sweep with the real trainer on two nodes of a real Slurm: the first node judges, the other one follows."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from jobctl.jobs import submission
from jobctl.jobs.spec.job_spec import TrainSpec
from jobctl.jobs.sweeping.page import RESULT
from jobctl.jobs.sweeping.plan import Arm, Plan
from jobctl.jobs.sweeping.results import read_outcomes
from jobctl.slurm.target import TARGET
from tests.slurm.conftest import Submitter
from tests.slurm.test_training import ENDED, TINY, corpus

__all__ = ["corpus"]


def submit_sweep(runs: Submitter, plan: Plan, **sets: Any) -> TrainSpec:
    spec = runs.spec("swept", None, stage="sweep", **TINY, **sets)
    assert isinstance(spec, TrainSpec)
    swept = msgspec.structs.replace(spec, sweep=plan)
    submission.submit(swept)
    return swept


def test_a_sweep_over_two_nodes_finds_measures_and_saves_nothing(corpus: Submitter) -> None:
    plan = Plan(arms=(Arm(name="found", guess=2),), sequences=2, interval=1)
    submit_sweep(corpus, plan, nodes=2)
    assert corpus.wait("swept", *ENDED, seconds=400).state == "finished", corpus.log("swept")[-30:]
    run = corpus.root / "runs" / "swept"
    outcomes = read_outcomes(run)
    assert [(o.trial.name, o.gradient_accumulation_steps, o.status) for o in outcomes] == [
        ("fit-2", 2, "fits"),
        ("time-1", 2, "fits"),
        ("time-2", 1, "fits"),
    ]
    assert all(o.tokens_per_second for o in outcomes[1:])
    assert [path.name for path in run.rglob("step-*")] == [], "a sweep writes no checkpoint"
    logged = corpus.log("swept")
    assert sum("sweep: found time-2: fits" in line for line in logged) == 1, "one node speaks"
    assert any("--set batch_size=" in line for line in logged)
    assert logged.count(RESULT) == 1


def test_a_sweep_that_was_ended_does_only_what_is_missing(corpus: Submitter) -> None:
    arms = tuple(
        Arm(name=f"rate={rate}", batch_sizes=(1,), settings={"learning_rate": rate}) for rate in (1, 2)
    )
    submit_sweep(corpus, Plan(arms=arms, sequences=1, interval=1))
    corpus.wait_for_line("swept", "sweep: rate=1 time-1: fits", seconds=300)
    TARGET.cancel(corpus.read("swept"))
    assert corpus.wait("swept", *ENDED).state == "cancelled"
    corpus.cluster.wait_until_idle()
    submission.resume(corpus.root, "swept")
    assert corpus.wait("swept", *ENDED, seconds=400).state == "finished", corpus.log("swept")[-30:]
    first, second = read_outcomes(corpus.root / "runs" / "swept")
    assert (first.attempt, second.attempt) == (1, 2), json.dumps(corpus.log("swept")[-5:])
