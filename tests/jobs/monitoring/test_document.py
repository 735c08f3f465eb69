"""Documents of the guide's own tools, whole and torn."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.monitoring.document import read_document, share
from jobctl.jobs.monitoring.history import column


def entry(step: int, **changes: Any) -> dict[str, Any]:
    facts = {"iter": step, "loss": 9.0 - step / 100, "lr": 3e-4, "grad_norm": 1.5, "dt_ms": 500.0}
    return facts | {"tokens_per_sec": 16_384.0, "memory_allocated_gb": 30.0, "mfu": 0.31} | changes


def write(path: Path, **content: Any) -> Path:
    path.write_text(json.dumps({"run_name": "old", "config": {"max_iters": 2000}, **content}, indent=2))
    return path


@pytest.mark.parametrize("key", ["training_iterations", "training_progress"])
@pytest.mark.parametrize("mfu", [0.31, 31.0, {"mfu": 0.31, "peak": 1}, {"mfu_percent": 31.0}, "0.31"])
def test_both_schemas_and_each_form_of_mfu(tmp_path: Path, key: str, mfu: object) -> None:
    steps = [entry(step, mfu=mfu) for step in (10, 20, 30)]
    path = write(tmp_path / "run_1.json", **{key: steps}, eval_steps=[{"iter": 20, "val_loss": 8.9}])
    history = read_document(path)
    assert (history.name, history.last_step, history.max_iters) == ("old", 30, 2000)
    assert [(i.iter, i.steps) for i in history.intervals] == [(10, 10), (20, 10), (30, 10)]
    assert column(history.intervals, "mfu") == pytest.approx([0.31] * 3)
    assert history.evaluations[0].val_loss == 8.9
    assert history.tokens_per_step == 8192.0
    assert history.tokens == 30 * 8192.0


def test_an_mfu_that_is_none_is_nan() -> None:
    assert all(math.isnan(share(value)) for value in (None, {}, {"mfu": None}, "n/a", [1]))


def test_entries_that_are_none_and_missing_fields_are_no_error(tmp_path: Path) -> None:
    steps = [None, 3, {"iter": 1, "loss": "nan"}, {"step": 2, "train_loss": 4.0}]
    history = read_document(
        write(tmp_path / "run_1.json", training_iterations=steps, summary=None, checkpoints={})
    )
    assert [step.iter for step in history.steps] == [1, 2]
    assert column(history.steps, "loss")[1] == 4.0
    assert history.intervals == []


@pytest.mark.parametrize("share_kept", [0.3, 0.6, 0.95])
def test_what_is_whole_in_a_torn_document_is_read(tmp_path: Path, share_kept: float) -> None:
    path = write(tmp_path / "run_1.json", training_progress=[entry(step) for step in range(1, 101)])
    text = path.read_text()
    path.write_text(text[: int(len(text) * share_kept)])
    history = read_document(path)
    assert 100 * share_kept - 3 <= history.last_step <= 100 * share_kept + 1
    assert history.max_iters == 2000
    assert "ends in the middle" in history.notes[0]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"a": 1}', "\x00\xff", "[" * 100_000])
def test_what_tells_of_no_run_is_refused_in_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run_1.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match="not the log of a training"):
        read_document(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.json: No such file"):
        read_document(tmp_path / "gone.json")
