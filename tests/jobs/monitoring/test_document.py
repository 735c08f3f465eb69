"""Documents of the guide's own tools, whole and torn."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.monitoring.document import newest_document, read_document, share
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
    assert "the file is cut off" in history.notes[0]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"a": 1}', "\x00\xff", "[" * 100_000])
def test_what_tells_of_no_run_is_refused_in_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run_1.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match="not the log of a training"):
        read_document(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.json: No such file"):
        read_document(tmp_path / "gone.json")


def test_the_newest_document_of_each_kind_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    assert newest_document(tmp_path, "run") is None
    for name in (
        "run_20260102-1.json",
        "run_20260101-9.json",
        "eval_20260103-1.json",
        "run_20260109-1.jsonl",
    ):
        (folder / name).write_text("{}")
    assert newest_document(tmp_path, "run") == folder / "run_20260102-1.json"
    assert newest_document(tmp_path, "eval") == folder / "eval_20260103-1.json"


def test_steps_that_were_written_twice_or_out_of_order_make_no_interval_without_steps(tmp_path: Path) -> None:
    steps = [entry(20), entry(10), entry(20), entry(30)]
    history = read_document(write(tmp_path / "run_1.json", training_iterations=steps))
    assert [(i.iter, i.steps) for i in history.intervals] == [(10, 10), (20, 10), (20, 1), (30, 10)]


@pytest.mark.parametrize(
    ("changes", "intervals"),
    [
        ({"dt_ms": None, "tokens_per_sec": None}, 0),
        ({"dt_ms": None}, 1),
        ({"tokens_per_sec": "n/a"}, 1),
        ({"dt_ms": "nan", "tokens_per_sec": "nan"}, 0),
    ],
)
def test_an_entry_has_an_interval_if_it_has_a_time_or_a_speed(
    tmp_path: Path, changes: dict[str, object], intervals: int
) -> None:
    history = read_document(write(tmp_path / "run_1.json", training_iterations=[entry(10, **changes)]))
    assert (len(history.steps), len(history.intervals)) == (1, intervals)


@pytest.mark.parametrize(
    ("memory", "allocated", "peak"),
    [
        ({"memory_allocated_gb": 30.0, "memory_peak_gb": 40.0}, 30.0, 40.0),
        ({"memory_gb": 30.0, "memory_reserved_gb": 35.0}, 30.0, 35.0),
        ({"memory_allocated_gb": 30.0}, 30.0, 30.0),
        ({"memory_max_gb": 40.0, "memory_reserved_gb": 50.0}, math.nan, 40.0),
    ],
)
def test_memory_has_other_names_in_other_tools(
    tmp_path: Path, memory: dict[str, float], allocated: float, peak: float
) -> None:
    bare = {name: value for name, value in entry(10).items() if not name.startswith("memory")}
    history = read_document(write(tmp_path / "run_1.json", training_iterations=[bare | memory]))
    (interval,) = history.intervals
    assert interval.memory_allocated_gb == pytest.approx(allocated, nan_ok=True)
    assert interval.memory_peak_gb == pytest.approx(peak)


@pytest.mark.parametrize(("mfu", "part"), [(0.0, 0.0), (1.0, 1.0), (1.5, 1.5), (1.6, 0.016), (100, 1.0)])
def test_an_mfu_that_no_device_can_reach_is_a_percentage(mfu: float, part: float) -> None:
    assert share(mfu) == pytest.approx(part)


def test_parts_norms_saves_and_the_end_of_a_document_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "run_1.json",
        run_name="",
        startup_info={"world_size": 4},
        training_progress=[entry(10, compute_ms=400.0, grad_norm_by_layer={"0": 1.5}, samples=80, skipped=1)],
        checkpoints=[{"step": 10, "path": "/c/step-10", "bytes": 7}, "torn"],
        eval_steps=[{"iter": 10, "loss": 8.0, "perplexity_per_byte": "nan"}],
        summary={"iter": 10, "status": "finished"},
    )
    history = read_document(path)
    assert (history.name, history.world_size, history.last_write) == ("run_1", 4, path.stat().st_mtime)
    (interval,) = history.intervals
    assert (interval.compute_ms, interval.data_wait_ms) == (400.0, 0.0)
    assert [(step.samples, step.skipped) for step in history.steps] == [(80, True)]
    assert [(g.iter, g.layers) for g in history.gradients] == [(10, {"0": 1.5})]
    assert [(save.iter, save.path, save.bytes) for save in history.saves] == [(10, "/c/step-10", 7)]
    assert [(e.val_loss, e.perplexity_per_byte) for e in history.evaluations] == [(8.0, None)]
    assert history.summary is not None
    assert (history.summary.iter, history.summary.status) == (10, "finished")
    assert [(s.file, s.last) for s in history.segments] == [("run_1.json", 10)]


def test_of_a_torn_document_only_whole_objects_are_taken(tmp_path: Path) -> None:
    """The settings are torn, and a list of other things has an end."""
    path = tmp_path / "run_1.json"
    path.write_text(
        '{"eval_steps": [ {"iter": 1, "val_loss": 3} , {"iter": 2}, 7 ], "config": {"max_iters": 5'
    )
    history = read_document(path)
    assert [evaluation.iter for evaluation in history.evaluations] == [1, 2]
    assert history.max_iters == 0
