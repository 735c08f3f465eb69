"""The progress line, and the screen of a whole run."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from jobctl.trainer.reporting.live_line import line
from tests.trainer.corpus import arguments, write_corpus
from tests.trainer.running import Screen, prepare, train


def test_the_progress_line_names_the_peak() -> None:
    record = {"loss": 2.5, "lr": 3e-4, "grad_norm": 0.7}
    timing = {"dt_ms": 500.0, "tokens_per_sec": 123456.0}
    assert "MFU n/a" in line(10, 100, record, timing, "")
    text = line(10, 100, record, timing | {"mfu": 0.587}, "989.0 TFLOP/s dense (h200)")
    assert "step 10/100 (10%)" in text
    assert "58.7% of 989.0 TFLOP/s" in text
    assert text.endswith("ETA 00:00:45")


def test_the_screen_of_a_whole_run(tmp_path: Path) -> None:
    training = prepare(arguments(write_corpus(tmp_path / "data"), tmp_path / "run", eval_interval=3))
    assert training.train_to_the_end() == 0
    screen = training.console
    assert isinstance(screen, Screen)
    assert [text.split()[1] for text in screen.lines if text.startswith("step") and "tokens/s" in text] == [
        "2/6", "3/6", "4/6", "6/6"
    ]  # fmt: skip
    assert any("perplexity" in text and "a byte" in text for text in screen.lines)
    assert re.match(r"finished at step 6 of 6, loss 5\.\d{4} -> \d\.\d{4}; ", screen.lines[-1])
    assert msgspec.to_builtins(training.train)["block_size"] == 16
    assert train(arguments(tmp_path / "data", tmp_path / "run", eval_interval=3)) == 0
