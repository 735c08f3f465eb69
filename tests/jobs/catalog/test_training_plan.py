"""A plan's tokens and epochs, and the remarks on plans that are rarely meant."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.jobs.catalog.training_plan import SourceShare, doubts, plan_of
from jobctl.trainer.training.announcement import announce
from tests.trainer.corpus import arguments, write_corpus
from tests.trainer.running import prepare, records

USUAL = TrainConfig(max_iters=1000, warmup_iters=100, block_size=2048)


def test_tokens_and_epochs_follow_from_the_steps() -> None:
    sources = [SourceShare("web", 100_000, 0.75), SourceShare("code", 8_000, 0.25)]
    plan = plan_of(USUAL, 64, sources)
    assert plan.tokens == 1000 * 64 * 2048
    assert plan.epochs == (("web", 0.48), ("code", 2.0))
    assert str(plan) == "131,072,000 tokens: 0.48 epochs of web, 2 epochs of code"


def test_a_usual_plan_gets_no_remark() -> None:
    assert doubts(plan_of(USUAL, 64, [SourceShare("web", 100_000, 1.0)]), USUAL) == []


def test_many_epochs_are_remarked_on() -> None:
    (line,) = doubts(plan_of(USUAL, 72, [SourceShare("tiny", 1_000, 1.0)]), USUAL)
    assert line.startswith("tiny is read 72 times")


@pytest.mark.parametrize(
    ("warmup", "remark"),
    [(999, ""), (1000, "takes all 1000 steps of the run"), (2000, "longer than the run of 1000")],
)
def test_a_warm_up_that_leaves_no_step_is_remarked_on(warmup: int, remark: str) -> None:
    """The guide's own stage of 1,000 iterations has a warm-up of 2,000."""
    train = TrainConfig(max_iters=1000, warmup_iters=warmup, learning_rate=3e-4)
    lines = doubts(plan_of(train, 1, [SourceShare("web", 10**6, 1.0)]), train)
    assert len(lines) == bool(remark)
    assert all("warm-up" in line and remark in line for line in lines)


def test_a_decay_that_ends_before_the_run_is_remarked_on() -> None:
    train = TrainConfig(max_iters=1000, warmup_iters=10, lr_decay_iters=600)
    (line,) = doubts(plan_of(train, 1, [SourceShare("web", 10**6, 1.0)]), train)
    assert "step 600 of 1000" in line


def test_the_start_of_a_run_says_its_plan_and_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = write_corpus(tmp_path / "data", tokens=400)
    training = prepare(arguments(data, tmp_path / "run", max_iters=60, warmup_iters=90, lr_decay_iters=100))
    with caplog.at_level(logging.INFO):
        announce(training.run, training.log, training.trackers)
    assert "epochs of data" in caplog.text
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any("the warm-up of 90 steps is longer than the run of 60" in line for line in warnings)
    assert any("data is read" in line for line in warnings)
    (start,) = records(tmp_path / "run", "start")
    assert start["startup_info"]["tokens_planned"] == 60 * training.tokens_per_step
