"""A second attempt with other settings: said, refused, or allowed."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.exit_codes import EXIT_USAGE
from jobctl.trainer.training.resumption import settings_of
from tests.trainer.checkpoint.saving import state
from tests.trainer.corpus import arguments, write_corpus
from tests.trainer.running import losses, records, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("data") / "data")


def test_another_value_is_refused_as_wrong_usage(data: Path, tmp_path: Path) -> None:
    assert train(arguments(data, tmp_path, max_iters=2, weight_decay=0.3)) == 0
    with pytest.raises(UserError, match=r"up to step 2:\n  weight_decay: 0\.3 -> 0\.1\n") as refused:
        train(arguments(data, tmp_path, max_iters=4, weight_decay=0.1))
    assert refused.value.code == EXIT_USAGE
    assert "--allow_changes" in refused.value.hint
    assert "jobctl resume RUN --set" in refused.value.hint


def test_an_allowed_change_is_said_and_trained_with(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert train(arguments(data, tmp_path, max_iters=2)) == 0
    with caplog.at_level(logging.INFO):
        changed = arguments(data, tmp_path, max_iters=4, learning_rate=5e-3, allow_changes="learning_rate")
        assert train(changed) == 0
    assert "step 2 continues with another learning_rate: 0.01 -> 0.005" in caplog.messages
    assert "step 2 continues with another max_iters: 2 -> 4" in caplog.messages
    assert [record["lr"] for record in records(tmp_path)][:2] == pytest.approx([1e-2 / 3, 2e-2 / 3])
    assert max(record["lr"] for record in records(tmp_path)[2:]) <= 5e-3

    # The checkpoint holds what was allowed, so that the next attempt needs no permission.
    assert train(arguments(data, tmp_path, max_iters=5, learning_rate=5e-3)) == 0


def test_settings_without_effect_change_without_a_word(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert train(arguments(data, tmp_path, max_iters=2)) == 0
    with caplog.at_level(logging.INFO):
        assert train(arguments(data, tmp_path, max_iters=2, log_interval=1, keep_last_checkpoints=5)) == 0
    assert not [line for line in caplog.messages if "continues with another" in line]


def test_other_data_may_be_allowed(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(arguments(data, run, max_iters=2)) == 0
    other = write_corpus(tmp_path / "other", seed=9)
    assert train(arguments(other, run, max_iters=4, allow_changes="dataset")) == 0
    assert len(losses(run)) == 4


def test_an_evaluation_may_use_another_block_size_and_no_other_model(data: Path, tmp_path: Path) -> None:
    assert train(arguments(data, tmp_path, max_iters=2)) == 0
    assert train(arguments(data, tmp_path, eval_only=True, block_size=32, learning_rate=1.0)) == 0
    with pytest.raises(UserError, match=r"norm_eps: 1e-05 -> 0\.1"):
        train(arguments(data, tmp_path, eval_only=True, norm_eps=0.1))


@pytest.mark.parametrize(
    ("facts", "batch"),
    [
        ({"step": 4, "samples": 32, "global_batch_size": 16}, 16),
        ({"step": 4, "samples": 32}, 8),
        ({"step": 3, "samples": 32}, 0),
        ({"step": 0, "samples": 0}, 0),
    ],
)
def test_the_batch_of_an_older_checkpoint_follows_from_its_samples(facts: dict[str, int], batch: int) -> None:
    assert settings_of(state(**facts)).global_batch_size == batch
