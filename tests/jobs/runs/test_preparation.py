from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from jobctl.jobs.core.layout import dataset_dir, preparation_file
from jobctl.jobs.runs.preparation import SILENT, Preparation, as_of_now, read_preparation, summary
from jobctl.jobs.runs.records import RunRecord
from jobctl.jobs.runs.store import Run
from jobctl.jobs.spec.resolution import Choices, resolve

FACTS = {
    "state": "tokenizing", "share": 0.25, "tasks": 8, "tasks_done": 2, "tokens": 3_000_000,
    "tokens_per_second": 1_500_000.0, "seconds_left": 90.0,
}  # fmt: skip


def run_of(root: Path, kind: str = "prep") -> Run:
    model = "qwen3_smoke" if kind == "train" else ""
    named = {"dataset": "a", "tokenizer": "b"} if kind == "prep" else {}
    choices = Choices(kind=kind, model=model, named=named)
    spec = resolve(choices, version="0", root=str(root)).spec
    return Run("r", root / "runs" / "r", RunRecord(spec=spec), ())


def test_a_prep_run_shows_how_far_it_is(tmp_path: Path) -> None:
    file = preparation_file(dataset_dir(tmp_path, "a", "b"))
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(FACTS))
    found = read_preparation(run_of(tmp_path))
    assert found
    assert FACTS.items() <= msgspec.to_builtins(found).items()
    assert summary(found) == "tokenizing: 25.0%, 2/8 tasks, 3.0 M tokens, 1.5 M/s, 90 s left"
    assert read_preparation(run_of(tmp_path, "train")) is None


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"state": 1}'])
def test_nothing_is_shown_before_there_is_something(tmp_path: Path, text: str | None) -> None:
    file = preparation_file(dataset_dir(tmp_path, "a", "b"))
    if text is not None:
        file.parent.mkdir(parents=True)
        file.write_text(text)
    assert read_preparation(run_of(tmp_path)) is None


SAID = Preparation(
    state="tokenizing",
    tasks=4,
    tasks_done=1,
    share=0.25,
    tokens=5_000_000,
    tokens_per_second=2e6,
    seconds_left=60.0,
    workers=2,
    bytes_per_second=8e6,
)


def test_a_fresh_report_has_its_rates() -> None:
    assert as_of_now(SAID, 3.0) == SAID
    assert summary(SAID) == "tokenizing: 25.0%, 1/4 tasks, 5.0 M tokens, 2.0 M/s, 60 s left"


@pytest.mark.parametrize("age", [SILENT + 1, 86400.0])
def test_a_report_that_is_old_tells_no_rate(age: float) -> None:
    """All workers were killed: nobody writes a last report."""
    now = as_of_now(SAID, age)
    assert (now.workers, now.tokens_per_second, now.bytes_per_second, now.seconds_left) == (0, 0.0, 0.0, None)
    assert (now.tasks_done, now.tokens, now.silent_for) == (1, 5_000_000, age)
    assert summary(now).endswith(f"5.0 M tokens, no worker has reported for {age / 60:,.0f} minutes")


def test_the_report_of_a_finished_job_does_not_age() -> None:
    finished = msgspec.structs.replace(SAID, state="finished")
    assert as_of_now(finished, 86400.0) == finished
