"""The program that tries settings: fresh processes, what it makes of their ends, and how it goes on."""

from __future__ import annotations

import functools
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobctl.jobs.core.layout import log_dir
from jobctl.jobs.sweeping.plan import Arm, Outcome, Plan, Trial
from jobctl.jobs.sweeping.results import read_outcomes, trial_dir, write_outcome
from jobctl.trainer.options import parse
from jobctl.trainer.sweep import (
    OUTPUT,
    Sweep,
    judged,
    leads,
    measured,
    parse_command,
    ranks_of,
    texts,
    untracked,
    why,
)
from tests.trainer.corpus import arguments, write_corpus
from tests.trainer.running import command

Launch = Callable[[Trial, Path], tuple[int, bool]]
TIME = Trial(arm=0, batch_size=2, purpose="time")
FIT = Trial(arm=0, batch_size=2, purpose="fit")
WIDE = {"hidden_size": 256, "intermediate_size": 1024, "max_position_embeddings": 1024}
"""A sequence of 1,024 tokens of this model takes some 60 MB."""


class Stubbed(Sweep):
    """A sweep whose launcher is a function."""

    def __init__(
        self, run: Path, plan: Plan, launch: Launch, attempt: int = 1, words: tuple[str, ...] = ()
    ) -> None:
        trainer = [f"--run_dir={run}", f"--attempt={attempt}"]
        super().__init__(plan, words, trainer, parse(trainer))
        self.stub = launch
        self.tried_names: list[str] = []

    def launched(self, trial: Trial, folder: Path) -> tuple[int, bool]:
        self.tried_names.append(trial.name)
        return self.stub(trial, folder)


def say(folder: Path, text: str) -> None:
    (folder / OUTPUT).write_text(text)


def with_room_for(largest: int) -> Launch:
    def launch(trial: Trial, folder: Path) -> tuple[int, bool]:
        if trial.batch_size <= largest:
            return 0, False

        say(folder, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n")
        return 1, False

    return launch


def test_the_largest_batch_is_found_and_kept(tmp_path: Path) -> None:
    plan = Plan(arms=(Arm(name="a", guess=5),), sequences=8)
    outcomes = Stubbed(tmp_path, plan, with_room_for(6)).try_arm(0)
    assert max(o.trial.batch_size for o in outcomes if o.status == "fits") == 6
    assert min(o.trial.batch_size for o in outcomes if o.status == "memory") == 7
    assert {o.trial.batch_size for o in outcomes if o.trial.purpose == "time"} == {4, 2, 1}
    assert len(read_outcomes(tmp_path)) == len(outcomes)


def test_a_second_attempt_does_what_is_missing_and_what_failed(tmp_path: Path) -> None:
    plan = Plan(arms=(Arm(name="", batch_sizes=(1, 2, 4, 8)),), sequences=8)
    kept = {1: "fits", 2: "memory", 4: "failed"}
    for size, status in kept.items():
        trial = Trial(arm=0, batch_size=size, purpose="time")
        write_outcome(
            tmp_path,
            msgspec.convert({"trial": msgspec.to_builtins(trial), "attempt": 1, "status": status}, Outcome),
        )

    sweep = Stubbed(tmp_path, plan, with_room_for(8), attempt=2)
    sweep.try_arm(0)
    assert sweep.tried_names == ["time-4", "time-8"]


def test_a_trial_does_not_see_what_an_ended_one_has_left(tmp_path: Path) -> None:
    left_over = trial_dir(tmp_path, TIME) / "metrics" / "run_1.jsonl"
    left_over.parent.mkdir(parents=True)
    left_over.touch()
    plan = Plan(arms=(Arm(name="", batch_sizes=(2,)),), sequences=8)
    Stubbed(tmp_path, plan, with_room_for(2)).try_arm(0)
    assert not left_over.exists()


def test_a_sweep_that_is_told_to_end_begins_no_other_trial(tmp_path: Path) -> None:
    plan = Plan(arms=(Arm(name="", batch_sizes=(1, 2)),), sequences=2)

    def launch(trial: Trial, folder: Path) -> tuple[int, bool]:
        sweep.end(signal.SIGTERM, None)
        return 143, False

    sweep = Stubbed(tmp_path, plan, launch)
    assert sweep.try_arm(0) == []
    assert sweep.tried_names == ["time-1"]
    assert read_outcomes(tmp_path) == [], "what was cut short is tried again"


def test_another_node_waits_for_the_word_of_the_first(tmp_path: Path) -> None:
    plan = Plan(arms=(Arm(name="", batch_sizes=(2,)),), sequences=2)
    said = Outcome(trial=TIME, attempt=1, status="memory", reason="rank 3")

    def launch(trial: Trial, folder: Path) -> tuple[int, bool]:
        write_outcome(tmp_path, said)
        return 1, False

    assert Stubbed(tmp_path, plan, launch, words=("--node_rank=1",)).try_arm(0) == [said]


@pytest.mark.parametrize(
    ("words", "variable", "first"),
    [
        (["--standalone"], "", True),
        (["--nnodes=2", "--node_rank=0"], "", True),
        (["--nnodes=2", "--node_rank=1"], "", False),
        (["--nnodes=2"], "is_host=1", True),
        (["--nnodes=2"], "is_host=0", False),
    ],
)
def test_the_first_node_judges(
    words: list[str], variable: str, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PET_RDZV_CONF", variable)
    assert leads(words) is first


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", "memory"),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried", "memory"),
        ("error: the kernel killed 1 process of this job for memory: its limit is 8.00 GiB", "memory"),
        ("RuntimeError: CUDA error: out of memory", "memory"),
        ("MemoryError", "memory"),
        ("RuntimeError: the ranks disagree", "failed"),
        ("", "failed"),
    ],
)
def test_memory_is_told_from_other_failures(text: str, status: str) -> None:
    found, reason = why(["step 1\n", f"Traceback\n{text}\n"], 1)
    assert found == status
    assert (text or "exit code 1") in reason


def test_a_rank_that_is_not_the_first_is_heard_as_well(tmp_path: Path) -> None:
    log = log_dir(tmp_path, 3) / "rank-00001.log"
    log.parent.mkdir(parents=True)
    log.write_text("torch.OutOfMemoryError: CUDA out of memory\n")
    say(tmp_path, "error: rank 1 ended with exit code 1\n")
    assert why(texts(tmp_path, 3), 1)[0] == "memory"


def test_a_trial_that_takes_too_long_has_failed(tmp_path: Path) -> None:
    plan = Plan(arms=(Arm(name=""),), sequences=4, seconds=7)
    outcome = judged(plan, TIME, 1, 1, 143, True, tmp_path)
    assert (outcome.status, outcome.reason) == ("failed", "not done within 7 s")


def test_the_first_interval_warms_up() -> None:
    def timing(dt: float, steps: int = 3) -> dict[str, Any]:
        rate = 8000 / dt
        return {
            "kind": "timing",
            "steps": steps,
            "dt_ms": dt,
            "tokens_per_sec": rate,
            "memory_peak_gb": dt,
            "mfu": rate,
        }

    facts = measured([timing(900.0), timing(100.0), timing(300.0), {"kind": "summary"}], TIME)
    assert facts["step_ms"] == 200.0
    assert facts["tokens_per_second"] == 40.0
    assert facts["memory_peak_gb"] == 900.0
    assert measured([timing(900.0)], FIT) == {"memory_peak_gb": 900.0}


def test_no_service_is_told_of_a_trial() -> None:
    told = {"MLFLOW_TRACKING_URI": "http://m", "KUBEFLOW_TRAINER_SERVER_URL": "https://k", "PATH": "/bin"}
    assert untracked(told) == {"PATH": "/bin", "WANDB_MODE": "disabled"}


def test_its_own_options_are_told_from_torchruns() -> None:
    options, launch = parse_command(
        ["--plan={}", "--nnodes=2", "--nproc_per_node=4", "--task=1", "--rdzv_id=7"]
    )
    assert (options.plan, options.task) == ("{}", 1)
    assert launch == ["--nnodes=2", "--nproc_per_node=4", "--rdzv_id=7"]
    assert ranks_of(launch) == 8


def test_two_ranks_with_a_limit_of_memory_find_the_largest_batch(tmp_path: Path) -> None:
    """Real trainings of two ranks, each with an address space that a large batch does not fit into."""
    limit = functools.partial(limit_memory, size_of_torch() + (1400 << 20))
    data = write_corpus(tmp_path / "data", tokens=40_000)
    run = tmp_path / "run"
    plan = Plan(
        arms=(
            Arm(name="plain", guess=3),
            Arm(name="broken", settings={"learning_rate": -1.0}, batch_sizes=(1,)),
        ),
        sequences=8,
        interval=1,
    )
    words = [*arguments(data, run, block_size=1024, **WIDE), "--attempt=1"]
    options = ["--standalone", "--nproc_per_node=2", f"--plan={msgspec.json.encode(plan).decode()}"]
    sweep = command("jobctl.trainer.sweep", *options, "--", *words, preexec_fn=limit)
    output, _ = sweep.communicate()
    assert sweep.returncode == 0, output
    outcomes = [o for o in read_outcomes(run) if o.trial.arm == 0]
    short = [o for o in outcomes if o.trial.purpose == "fit"]
    fitting = [o.trial.batch_size for o in short if o.status == "fits"]
    full = [o.trial.batch_size for o in short if o.status == "memory"]
    assert max(fitting) + 1 == min(full), output
    assert any(o.tokens_per_second for o in outcomes)
    assert {o.status for o in read_outcomes(run) if o.trial.arm == 1} == {"failed"}, "and hides nothing"
    assert not list(run.rglob("step-*"))
    fastest = max(outcomes, key=lambda o: o.tokens_per_second or 0.0)
    assert f"--set batch_size={fastest.trial.batch_size} " in output


def size_of_torch() -> int:
    """Return the address space of a process that has only imported torch: CUDA's libraries are gigabytes of it."""
    text = "import re, torch; print(re.search(r'VmPeak:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return int(done.stdout) << 10


def limit_memory(size: int) -> None:
    """Let this process and those that it starts have so many bytes of address space each."""
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
