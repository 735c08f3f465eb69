"""What a run says of itself before its first step, and where its log goes on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from jobctl.trainer.lifecycle.stop import DIED_AT, LAUNCHED_AT
from jobctl.trainer.reporting.runlog import RunLog
from jobctl.trainer.training.announcement import announce, open_log
from tests.trainer.corpus import arguments, write_corpus
from tests.trainer.running import prepare, records, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("data") / "data")


class Trackers:
    """Remember what they were told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def begin(self, name: str, config: dict[str, Any], resumed_step: int | None) -> None:
        self.told.append((name, config["learning_rate"], resumed_step))


def test_the_run_log_and_the_trackers_get_the_settings_in_force(data: Path, tmp_path: Path) -> None:
    run = prepare(arguments(data, tmp_path / "mine", learning_rate=3e-3)).run
    trackers = Trackers()
    announce(run, RunLog(run.directory, None), trackers)  # type: ignore[arg-type]
    (start,) = records(tmp_path / "mine", "start")
    assert start["run_name"] == "mine"
    assert start["config"]["learning_rate"] == 3e-3
    assert start["config"]["architecture"] == "qwen3"
    assert trackers.told == [("mine", 3e-3, None)]


def test_a_rank_without_a_log_says_it_in_its_own_log_alone(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = prepare(arguments(data, tmp_path)).run
    with caplog.at_level(logging.INFO):
        announce(run, None, None)
    assert "none: one process holds everything" in caplog.text
    assert records(tmp_path, "start") == []


@pytest.mark.parametrize("evaluates", [False, True])
def test_only_a_training_is_told_what_may_be_a_mistake(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, evaluates: bool
) -> None:
    flags = {"max_iters": 2, "warmup_iters": 2}
    assert train(arguments(data, tmp_path, **flags)) == 0
    caplog.clear()
    run = prepare(arguments(data, tmp_path, eval_only=evaluates, **flags)).run
    announce(run, None, None)
    assert ("the warm-up takes all 2 steps" in caplog.text) != evaluates


def test_a_log_that_goes_on_begins_with_the_step_of_its_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(arguments(data, tmp_path, max_iters=2)) == 0
    monkeypatch.setenv(LAUNCHED_AT, "1000.0")
    monkeypatch.setenv(DIED_AT, "990.0")
    run = prepare(arguments(data, tmp_path, max_iters=4)).run
    log = open_log(run, attempt=2)
    first, second = log.path.read_text().splitlines()
    assert '"resumed"' in first
    assert '"iter":2' in first
    # Goodput counts the time between a death and the next start as lost.
    for word in ('"attempt":2', '"launched":1000.0', '"died":990.0'):
        assert word in second


def test_an_evaluation_has_a_log_of_its_own(data: Path, tmp_path: Path) -> None:
    """It never adds to the training's log, which may be written to at this moment."""
    assert train(arguments(data, tmp_path, max_iters=2)) == 0
    run = prepare(arguments(data, tmp_path, max_iters=2, eval_only=True)).run
    log = open_log(run, attempt=2)
    assert log.path.name.startswith("eval_")
    assert log.path.read_text() == ""
