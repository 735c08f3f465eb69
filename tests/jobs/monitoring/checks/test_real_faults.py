"""Faults in real trainings on CPUs, over gloo where there are two ranks: doctor names them by what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobctl.jobs.core import layout
from tests.jobs.monitoring.checks.test_diagnosis import findings
from tests.jobs.monitoring.runs import write_attempt
from tests.trainer.corpus import arguments, write_corpus
from tests.trainer.running import PATIENCE

PROJECT = Path(__file__).parents[4]
Flags = dict[str, Any]
Prepare = Callable[[Path], None]
LONG: Flags = {"max_iters": 150, "log_interval": 10, "block_size": 8}


def launch(run: Path, fault: str, ranks: int, words: list[str], attempt: int = 1) -> int:
    """Do one attempt as a job's script does: the launcher's words in batch.log, its end in the record."""
    log = layout.batch_log(run, attempt)
    log.parent.mkdir(parents=True)
    with log.open("wb") as output:
        command = [sys.executable, "-m", "bench.faulty_rank", "--standalone"]
        command += [f"--nproc_per_node={ranks}", "--max_restarts=0", "--", *words, f"--attempt={attempt}"]
        environment = os.environ | {
            "FAULT": fault,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": f"{PROJECT}/src:{PROJECT}",
        }
        done = subprocess.run(
            command, cwd=run, env=environment, stdout=output, stderr=output, check=False, timeout=PATIENCE
        )

    write_attempt(run, attempt, begin=10.0 * attempt, end=10.0 * attempt + 5, exit_code=done.returncode)
    return done.returncode


def changed(file: str, change: Callable[[bytes], bytes]) -> Prepare:
    def prepare(data: Path) -> None:
        path = data / file
        path.write_bytes(change(path.read_bytes()))

    return prepare


def larger_ids(text: bytes) -> bytes:
    ids = np.frombuffer(text, "<u2").copy()
    ids[::3] += 300
    return ids.tobytes()


def nothing(data: Path) -> None: ...


def remove(data: Path) -> None:
    (data / "train.bin").unlink()


CASES: dict[str, tuple[str, str, int, Flags, Prepare]] = {
    "a rank that was stopped": ("hang", "stopped", 2, {"hang_timeout": 5}, nothing),
    "a collective of another size": ("ranks_disagree", "other_collective", 2, {"hang_timeout": 5}, nothing),
    "a rank that works longer": ("straggler", "slow_rank", 2, {"max_iters": 12, "log_interval": 1}, nothing),
    "a process that was killed": ("died_by_signal", "killed", 1, {}, nothing),
    "one rank that was killed": ("died_by_signal", "killed_once", 2, {}, nothing),
    "a library that crashes": ("died_by_signal", "crashed", 1, {}, nothing),
    "memory that is not enough": ("host_memory", "little_memory", 1, {"batch_size": 60_000}, nothing),
    "a package that is missing": ("optional_package", "missing_package", 1, {}, nothing),
    "a disk that is full": ("disk_full", "full_disk", 1, {}, nothing),
    "data that come too slowly": ("much_data_wait", "slow_data", 1, {"max_iters": 60}, nothing),
    "ids outside of the vocabulary": ("wrong_ids", "none", 1, {}, changed("train.bin", larger_ids)),
    "a shard that is not there": ("data_missing", "none", 1, {}, remove),
    "a shard that is cut short": ("data_damaged", "none", 1, {}, changed("train.bin", lambda text: text[:100])),
    "a setting that cannot be": ("wrong_configuration", "none", 1, {"batch_size": 0}, nothing),
    "a loss that is no number": (
        "bad_steps", "none", 1, {"learning_rate": 1e30, "grad_clip": 0, "max_bad_steps": 5, "max_iters": 60}, nothing,
    ),
    "a learning rate of nothing": (
        "loss_not_falling", "none", 1, {**LONG, "learning_rate": 1e-12, "min_lr": 0}, nothing,
    ),
    "no clipping": ("no_gradient_clipping", "none", 1, {**LONG, "grad_clip": 0, "max_iters": 1000}, nothing),
    "a warm-up longer than the run": (
        "warmup_too_long", "none", 1, {**LONG, "max_iters": 220, "warmup_iters": 5000, "lr_decay_iters": 0}, nothing,
    ),
    "a small data set": ("data_repeated", "none", 1, {**LONG, "batch_size": 64, "block_size": 24}, nothing),
}  # fmt: skip
"""Each fault: the check that must name it, what is injected, ranks, settings, and what is done to the data."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "data", tokens=40_000)


@pytest.mark.parametrize("case", CASES)
def test_doctor_names_a_fault_of_a_real_training(corpus: Path, tmp_path: Path, case: str) -> None:
    check, fault, ranks, flags, prepare = CASES[case]
    data = tmp_path / "data"
    subprocess.run(["cp", "-r", corpus, data], check=True)
    prepare(data)
    run = tmp_path / "run"
    run.mkdir()
    code = launch(run, fault, ranks, arguments(data, run, **flags))
    told = findings(run)
    assert check in [finding.check for finding in told], (
        code,
        told,
        layout.batch_log(run, 1).read_text()[-2000:],
    )
    assert len(told) <= 2, [finding.check for finding in told]


def test_attempts_that_all_end_at_the_same_step_are_named(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for attempt in (1, 2, 3):
        assert launch(run, "killed", 1, arguments(corpus, run), attempt) == 137

    assert "fruitless_attempts" in [finding.check for finding in findings(run)]


def test_a_run_that_falls_silent_is_named(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    launch(run, "killed", 1, arguments(corpus, run, log_interval=1))
    write_attempt(run, 1)
    assert json.loads(layout.attempt_file(run, 1).read_text()).get("end") is None
    assert "silent" in [finding.check for finding in findings(run, hours=1.0)]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_training_without_a_fault_raises_no_alarm(corpus: Path, tmp_path: Path, ranks: int) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert launch(run, "none", ranks, arguments(corpus, run, max_iters=40)) == 0
    assert findings(run) == []


def test_twenty_kinds_are_really_injected() -> None:
    """Those above, and the two that need several attempts or silence."""
    assert len(CASES) + 2 >= 20
