"""The figures that jobctl shows of a training, from the documents in its metrics folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.layout import checkpoints_dir, metrics_dir
from jobctl.jobs.monitoring.figures import read_training
from tests.jobs.monitoring.runs import write_run


def write(run: Path, name: str, **document: Any) -> Path:
    path = metrics_dir(run) / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def test_an_evaluation_adds_its_loss_to_the_figures_of_the_training(tmp_path: Path) -> None:
    assert read_training(tmp_path) is None
    evaluation = write(tmp_path, "eval_20260101-000003-000", eval_steps=[{"iter": 4, "val_loss": 3.5}])
    alone = read_training(tmp_path)
    assert alone
    assert (alone.iterations, alone.validation_loss, alone.metrics) == (0, 3.5, str(evaluation))

    steps = [{"iter": n, "loss": 6.0 - n / 2, "tokens_per_sec": 100.0 * n} for n in (1, 2, 3, 4)]
    seen = [{"iter": 2, "val_loss": 5.0}, {"iter": 4, "val_loss": 4.0}]
    write(tmp_path, "run_20260101-000001-000", training_iterations=[])
    document = write(tmp_path, "run_20260101-000002-000", training_iterations=steps, eval_steps=seen)
    training = read_training(tmp_path)
    assert training
    assert (training.iterations, training.first_loss, training.last_loss) == (4, 5.5, 4.0)
    assert (training.tokens_per_second, training.metrics) == (300.0, str(document))
    assert training.validation_loss == 3.5, "the same checkpoint, scored later"

    write(tmp_path, "run_20260101-000002-000", eval_steps=[*seen, {"iter": 6, "val_loss": 3.0}])
    training = read_training(tmp_path)
    assert training
    assert training.validation_loss == 3.0, "the training has gone on since"


@pytest.mark.parametrize(
    ("text", "shown"), [("step-4\n", "step-4"), ("../../../etc", None), ("\x1b[2J/..", None), ("", None)]
)
def test_a_checkpoint_is_named_only_where_it_is_the_runs(
    tmp_path: Path, text: str, shown: str | None
) -> None:
    write(tmp_path, "run_20260101-000001-000", training_iterations=[])
    checkpoints_dir(tmp_path).mkdir()
    (checkpoints_dir(tmp_path) / "LATEST").write_text(text)
    training = read_training(tmp_path)
    assert training
    assert training.checkpoint == (str(checkpoints_dir(tmp_path) / shown) if shown else None)


def test_the_logs_of_a_run_say_more_than_its_document(tmp_path: Path) -> None:
    write_run(tmp_path / "r")
    training = read_training(tmp_path / "r")
    assert training
    assert training.metrics.endswith(".jsonl"), "the document is written later"

    document = write(
        tmp_path / "r", "run_20260101-000001-000", training_iterations=[{"iter": 1, "loss": 9.0}]
    )
    training = read_training(tmp_path / "r")
    assert training
    assert training.iterations == 200
    assert training.metrics == str(document)


def test_a_loss_that_is_no_number_is_no_figure(tmp_path: Path) -> None:
    write(tmp_path, "run_20260101-000001-000", training_iterations=[{"iter": 1, "loss": "nan"}])
    training = read_training(tmp_path)
    assert training
    assert (training.iterations, training.first_loss, training.tokens_per_second) == (1, None, None)


def test_a_file_that_is_no_document_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "run_20260101-000001-000", other=1)
    with pytest.raises(UserError, match="not the log of a training"):
        read_training(tmp_path)
