"""Runs the trainer: in this process, on several ranks over gloo, or as the command that users type."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
from torch.distributed import TCPStore

from jobctl.jobs.core.log_files import Kind
from jobctl.trainer import distributed as parallel
from jobctl.trainer.lifecycle import flight_record
from jobctl.trainer.lifecycle.stop import StopRequest
from jobctl.trainer.options import parse
from jobctl.trainer.reporting.runlog import logs, records_of_run
from jobctl.trainer.training.assembly import Run, assemble
from jobctl.trainer.training.loop import Training

PROJECT = Path(__file__).parents[2]
PATIENCE = 900.0
"""Seconds after which what was started counts as hung, on the busiest machine."""
ALONE = parallel.World(rank=0, size=1, device=torch.device("cpu"))
Action = Callable[[Sequence[str], parallel.World], Any]


class Screen:
    """A console that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    progress = line


class Calm:
    """A watchdog that is never worried."""

    def beat(self) -> None: ...

    def waiting_for_storage(self, reason: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


def prepare(arguments: Sequence[str], world: parallel.World = ALONE) -> Training:
    """Everything up to the first step."""
    options = parse(arguments)
    run: Run = assemble(options, world)
    return Training(run, Screen(), StopRequest(options.run_dir, world), Calm())  # type: ignore[arg-type]


def train(arguments: Sequence[str], world: parallel.World = ALONE) -> int:
    """Train in this process; the exit code."""
    training = prepare(arguments, world)
    if training.train.eval_only:
        return training.evaluate_only()
    return training.train_to_the_end()


def records(run: Path, kind: str = "iteration", log: Kind = "run") -> list[dict[str, Any]]:
    """Return the run's records of one kind, over all its attempts."""
    assert logs(run, log), f"no log in {run}"
    return [record for record in records_of_run(run, log) if record["kind"] == kind]


def losses(run: Path) -> list[float]:
    return [record["loss"] for record in records(run)]


class Ranks:
    """Processes that train (or do another ``action`` with) each command line in turn, as ranks over gloo.

    Forked, so that they start at once.
    """

    def __init__(self, size: int, *commands: Sequence[str], action: Action = train) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["jobctl.trainer.training.assembly", "jobctl.trainer.training.loop"])
        self.store = TCPStore(
            "127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=PATIENCE)
        )
        self.results = context.Queue()
        self.processes = [
            context.Process(target=_rank, args=(rank, size, self.store.port, commands, action, self.results))
            for rank in range(size)
        ]
        for process in self.processes:
            process.start()

    def run(self) -> bool:
        return all(process.is_alive() for process in self.processes)

    def kill(self) -> None:
        """SIGKILL to all of them."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()

    def codes(self) -> list[Any]:
        """What the actions of rank 0 returned (training: the exit code), or the error's text, when all have ended."""
        try:
            found = dict(self.results.get(timeout=PATIENCE) for _ in self.processes)
            return cast("list[Any]", found[0])
        except queue.Empty:
            raise TimeoutError("the ranks did not end") from None
        finally:
            for process in self.processes:
                process.join(10)
            self.kill()


def on_ranks(size: int, *commands: Sequence[str], action: Action = train) -> list[Any]:
    """Train each command line in turn on ``size`` ranks; rank 0's exit codes, or the error's text."""
    return Ranks(size, *commands, action=action).codes()


def _rank(
    rank: int, size: int, port: int, commands: Sequence[Sequence[str]], action: Action, results: Any
) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True",
    }  # fmt: skip
    torch.set_num_threads(1)
    flight_record.switch_on()
    world = parallel.join("cpu", 120)
    codes: list[Any] = []
    for command in commands:
        try:
            codes.append(action(command, world))
        except Exception as error:
            traceback.print_exc()
            codes.append(f"{type(error).__name__}: {error}")
    results.put((rank, codes))
    parallel.leave(world)
    results.close()
    results.join_thread()
    os._exit(0)


RECORDS_GLOO = hasattr(torch._C._distributed_c10d, "_dump_fr_trace_json")
"""Whether this torch records collectives of gloo; an older one records those of NCCL only."""


def command(module: str, *arguments: object, **keywords: Any) -> subprocess.Popen[str]:
    """``python -m module arguments``, with its output in a pipe.

    Also a module of tests and benchmarks where Python does not look into the working folder by itself, as in the
    image.
    """
    beside = module.startswith(("tests.", "bench."))
    paths = {"PYTHONPATH": str(PROJECT)} if beside else {}
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)], cwd=PROJECT, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | paths, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **keywords,
    )  # fmt: skip
