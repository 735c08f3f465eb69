"""The bench of kills: who is killed when, and what is compared."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from bench import kills
from jobctl.prep.shards.format import read_meta

STAND_IN = """
import os, pathlib, sys, time
run = pathlib.Path(sys.argv[1])
checkpoints = run / "checkpoints"
checkpoints.mkdir(parents=True, exist_ok=True)
pointer = checkpoints / "LATEST"
step = int(pointer.read_text().removeprefix("step-")) if pointer.exists() else 0
for step in range(step + 5, 41, 5):
    partial = checkpoints / f".writing-step-{step}"
    partial.mkdir(exist_ok=True)
    time.sleep(0.05)
    partial.rename(checkpoints / f"step-{step}")
    aside = checkpoints / "aside"
    aside.write_text(f"step-{step}")
    aside.rename(pointer)
"""


def test_rows_are_compared_without_what_a_clock_measured() -> None:
    one = {"kind": "iteration", "iter": 3, "loss": 1.5, "lr": 1e-3, "ms": 7.0, "time": "now"}
    rows = [one | {"ms": ms} for ms in (7.0, 9.0)]

    first, second = kills.without_clock(rows)

    assert first == second == {"kind": "iteration", "iter": 3, "loss": 1.5, "lr": 1e-3}


def test_an_attempt_is_killed_only_after_its_next_checkpoint(tmp_path: Path) -> None:
    script = tmp_path / "trainer.py"
    script.write_text(STAND_IN)
    run_dir = tmp_path / "run"
    killed = kills.Killed(run_dir, [sys.executable, str(script), str(run_dir)], tmp_path / "log")

    events = list(kills.kill_and_resume(killed, 2, 5, random.Random(1), pause=0.01))

    assert [event.get("kill") for event in events] == [1, 2, None]
    assert events[0]["latest"] >= 5
    assert events[1]["latest"] >= events[0]["latest"] + 5
    assert events[1]["save cut short"] in (True, False)
    assert events[-1] == {"end": 0}
    assert kills.latest(run_dir) == 40


def test_an_attempt_that_ends_by_itself_is_an_error(tmp_path: Path) -> None:
    killed = kills.Killed(tmp_path / "run", [sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "log")

    events = list(kills.kill_and_resume(killed, 2, 5, random.Random(1), pause=0.01))

    assert events == [{"error": "the attempt ended with code 3 before it was killed"}]


def test_the_tokens_are_the_same_in_each_setting(tmp_path: Path) -> None:
    folders = [kills.write_tokens(tmp_path / name, tokens=5000) for name in ("one", "two")]

    assert [read_meta(folder).tokens >= 5000 for folder in folders] == [True, True]
    assert (folders[0] / "train.bin").read_bytes() == (folders[1] / "train.bin").read_bytes()
