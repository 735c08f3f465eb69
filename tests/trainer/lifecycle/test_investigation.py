"""Real ranks that hang: each fault is named in words, with the rank that is at fault, and all ranks end."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from jobctl.jobs.core.layout import hang_dir, hang_file
from jobctl.trainer.data import samples
from jobctl.trainer.distributed import World
from jobctl.trainer.lifecycle import investigation, watchdog
from jobctl.trainer.lifecycle.investigation import Investigation
from jobctl.trainer.lifecycle.watchdog import Watchdog
from tests.trainer.running import ALONE, RECORDS_GLOO, Ranks

needs_gloos_record = pytest.mark.skipif(
    not RECORDS_GLOO, reason="this torch records collectives of NCCL only"
)
TIMEOUT = 2
FAULTY_STEP = 3
STUCK = r"reads_the_hub_for_ever \(\S*lifecycle/test_investigation\.py:"
"""How the function that hangs is named. In an image the tests lie in a folder called jobctl."""
STEPS = 6


def reads_the_hub_for_ever() -> None:
    time.sleep(600)


def another_kind(world: World) -> None:
    dist.broadcast(torch.ones(7), src=0)


class StuckSamples:
    """Data of which one micro-batch never comes."""

    vocab_size = 10

    def __getitem__(self, number: int) -> object:
        if number >= FAULTY_STEP:
            reads_the_hub_for_ever()
        return torch.zeros(5, dtype=torch.int64).numpy()


def wait_for_data(world: World) -> None:
    layout = samples.BatchLayout(1, 1, 1, 0)
    batches = samples.MicroBatches(StuckSamples(), layout, 0)  # type: ignore[arg-type]
    for _ in samples.micro_batches(batches, 9, workers=1, pin_memory=False):
        pass


FAULTS: dict[str, Callable[[World], object]] = {
    "code": lambda world: reads_the_hub_for_ever(),
    "stop": lambda world: os.kill(os.getpid(), signal.SIGSTOP),
    "skip": lambda world: world.any(True),
    "kind": another_kind,
    "data": wait_for_data,
    "slow": lambda world: time.sleep(TIMEOUT / 2),
}


def steps(command: Sequence[str], world: World) -> str:
    """Take steps as a training does, with a fault on rank 1 in one of them."""
    folder = Path(command[0])
    investigation.GATHER_SECONDS = 4.0
    watchdog.POLL_SECONDS = 0.1
    # What data workers write must come into a file that can be read.
    log = open(folder / f"log-{world.rank}", "w", buffering=1)  # noqa: SIM115
    os.dup2(log.fileno(), 2)

    def say(text: str) -> None:
        with open(folder / "console", "a") as console:
            console.write(text + "\n")

    look = Investigation(world, folder, 1, say, log)
    with Watchdog(TIMEOUT, log, look, look.exchange.is_called) as dog:
        for step in range(STEPS):
            if world.rank == 1 and step == FAULTY_STEP:
                FAULTS[command[1]](world)
            dist.all_reduce(torch.ones(5))
            world.any(False)
            dog.beat()

    return "finished"


def hung(folder: Path, fault: str) -> str:
    """What is on the console when all ranks have ended."""
    ranks = Ranks(2, [str(folder), fault], action=steps)
    try:
        for process in ranks.processes:
            process.join(120)
        assert not any(process.is_alive() for process in ranks.processes)
    finally:
        ranks.kill()

    return (folder / "console").read_text()


@needs_gloos_record
def test_a_rank_in_user_code_is_named_with_the_collective_and_the_line(tmp_path: Path) -> None:
    text = hung(tmp_path, "code")
    assert "training hangs: it made no step for" in text
    assert (
        "rank 1 did not arrive at collective 4 of the default group (gloo), all_reduce of [5] Float, "
        "in which rank 0 waits" in text
    )
    assert re.search(rf"rank 1 is in {STUCK}", text)
    assert text.count("training hangs") == 1, "one rank speaks"

    verdict = json.loads(hang_file(tmp_path, 1).read_text())
    assert 0 < time.time() - verdict["last_progress"] < 300
    assert verdict["verdict"][0].startswith("rank 1 did not arrive at")
    assert len(list(hang_dir(tmp_path, 1).glob("rank-*.json"))) == 2


def test_a_stopped_rank_is_named_and_ended(tmp_path: Path) -> None:
    text = hung(tmp_path, "stop")
    assert "rank 1 (" in text
    assert "is stopped by a signal; kill -CONT" in text


@needs_gloos_record
def test_a_rank_that_skips_a_collective_is_named(tmp_path: Path) -> None:
    text = hung(tmp_path, "skip")
    assert (
        "rank 1 did not arrive at collective 4 of the default group (gloo), all_reduce of [5] Float" in text
    )
    assert "rank 0 did not arrive at collective 5 of control (gloo)" not in text


@needs_gloos_record
def test_ranks_that_come_with_different_collectives_are_told_apart(tmp_path: Path) -> None:
    text = hung(tmp_path, "kind")
    assert "the ranks disagree at collective 4 of the default group (gloo): " in text
    assert "all_reduce of [5] Float on rank 0" in text
    assert "broadcast of [7] Float on rank 1" in text


@needs_gloos_record
def test_a_data_worker_that_hangs_is_named_with_its_line(tmp_path: Path) -> None:
    text = hung(tmp_path, "data")
    assert "rank 1 did not arrive at collective 4" in text
    assert "rank 1 waits for its data: data worker" in text
    assert re.search(rf"is in {STUCK}", text)


def test_one_slow_rank_is_no_hang(tmp_path: Path) -> None:
    assert Ranks(2, [str(tmp_path), "slow"], action=steps).codes() == ["finished"]
    assert not (tmp_path / "console").exists()


def test_a_single_rank_speaks_for_itself(tmp_path: Path) -> None:
    said: list[str] = []
    with open(tmp_path / "log", "w") as log:
        look = Investigation(ALONE, tmp_path, 1, said.append, log)
        thread = threading.Thread(target=look, args=(30.0,))
        thread.start()
        thread.join()

    assert "training hangs: it made no step for 30 s" in said[0]
    assert "rank 0 is in test_a_single_rank_speaks_for_itself" in said[0]


def test_without_the_store_each_rank_says_what_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with open(tmp_path / "log", "w") as log:
        look = Investigation(ALONE, tmp_path, 1, said.append, log)

        def gone(dump: object) -> None:
            raise ConnectionError("no store")

        monkeypatch.setattr(look.exchange, "tell", gone)
        look(30.0)

    assert len(said) == 1
