from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from bench import activation_memory
from bench.activation_memory import MODELS, WAYS, jobs, row, table


def options(**changes: Any) -> argparse.Namespace:
    chosen: dict[str, Any] = {
        "models": ["llama3_2.2b", "qwen3_1.8b"],
        "kernels": ["fused", "plain"],
        "batch": 0,
        "steps": 4,
        "seconds": 1.0,
        "data": Path("/d"),
        "tokenizer": "",
        "ways": WAYS,
    }
    return argparse.Namespace(**chosen | changes)


def measured(way: str, **facts: Any) -> dict[str, Any]:
    job = {
        "name": "m",
        "model": "m",
        "kernels": "fused",
        "activation_checkpointing": way,
        "batch": 8,
        "accumulation": 2,
        "block": 2048,
    }
    return job | facts


def test_each_way_is_measured_fused_first_on_each_models_data() -> None:
    queue = jobs(options())
    assert [job["entrant"] for job in queue] == ["ours"] * 8 + ["ours-plain"] * 6
    assert [job["activation_checkpointing"] for job in queue[:4]] == list(WAYS)
    assert [job["activation_checkpointing"] for job in queue[8:11]] == ["none", "selective", "full"]
    assert {job["data"] for job in queue} == {"/d/sotu-llama3", "/d/sotu-qwen3"}
    assert {job["data"] for job in jobs(options(tokenizer="qwen3"))} == {"/d/sotu-qwen3"}
    assert {job["batch"] for job in jobs(options(batch=2))} == {2}


def test_a_measurement_becomes_a_row() -> None:
    result = measured(
        "none", peak_gib={"8": 70.123}, step_ms=500.0, first_loss=11.0, last_loss=9.0, seconds=1
    )
    assert row(result) == {
        "model": "m",
        "kernels": "fused",
        "activation_checkpointing": "none",
        "batch": 8,
        "peak_gib": 70.12,
        "tokens_per_second": 65536,
        "step_ms": 500.0,
        "first_loss": 11.0,
        "last_loss": 9.0,
    }


def test_a_failure_stays_in_its_row_and_the_table_compares_with_the_first() -> None:
    rows = [
        row(measured("none", peak_gib={"8": 80.0}, step_ms=100.0, first_loss=1.0, last_loss=1.0)),
        row(measured("selective", peak_gib={"8": 60.0}, step_ms=102.0, first_loss=1.0, last_loss=1.0)),
        row(measured("full", error="OutOfMemoryError: no")),
    ]
    lines = table(rows).splitlines()
    assert lines[1].split()[-2:] == ["327,680", "100.0%"]
    assert lines[2].split()[-3:] == ["60.00", "321,255", "98.0%"]
    assert "OutOfMemoryError" in lines[3]


def test_what_there_is_no_time_for_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    monkeypatch.setattr(
        "sys.argv", ["x", "--data", "/d", "-o", str(out), "--budget", "-1", "--kernels", "fused"]
    )
    monkeypatch.setattr(activation_memory.FreshProcesses, "start", staticmethod(lambda: Waiting()))
    assert activation_memory.main() == 0
    assert out.read_text().count("no time was left") == len(WAYS) * len(MODELS)
    assert "no time was left" in capsys.readouterr().out


class Waiting:
    """A process that nobody gives a job to."""

    def kill(self) -> None: ...

    def communicate(self) -> None: ...
