"""``python -m jobctl.trainer.launch [torchrun options] -- [trainer options]``: torchrun, with telling exit codes.

torchrun itself ends with 1 whatever its workers ended with. This one ends with the code of the worker
that was the cause: 200 (checkpointed, wants to go on), 201 (its GPU failed), 2 (wrong usage), 128 + n
(killed by signal n), or any other. SIGTERM and SIGINT become the run's STOP file, so that all ranks
finish the same step.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from jobctl.jobs.core import memory_kill
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.exit_codes import (
    EXIT_BUSY,
    EXIT_CONTINUE,
    EXIT_FAILED,
    EXIT_FINISHED,
    EXIT_USAGE,
    cause,
    code_of,
)
from jobctl.jobs.core.layout import hang_file, stop_file
from jobctl.trainer import rendezvous
from jobctl.trainer.compile_cache.node import open_cache
from jobctl.trainer.lifecycle.rank_notes import Note, NoteFolder
from jobctl.trainer.lifecycle.restarts import MAX_RESTARTS, first_failures, obstacle
from jobctl.trainer.lifecycle.stop import DIED_AT, LAUNCHED_AT, LAUNCHER_WORDS
from jobctl.trainer.options import Options, parse
from jobctl.trainer.reporting.hang_report import attempt_of, hang_report

LESS_MEMORY = "a smaller --dataloader_num_workers or --batch_size"
WORKER = "jobctl.trainer"
"""The module that each rank runs."""
NO_NOTES: Mapping[int, Note] = {}
LOST_PEER = -1
"""Stands for a rank of another node."""
MEETING_SECONDS = 60.0
"""Seconds after a death in which this node tries to meet the others again, while their ranks end."""
MEETING_PAUSE_SECONDS = 1.0
LINGER_SECONDS = 5.0
"""Seconds for which the launcher outlives its ranks: others may still need its rendezvous store."""


def main(arguments: Sequence[str]) -> int:
    """Start the ranks of this node, wait for them, and return one exit code for all."""
    torchrun_options, trainer_options = split(arguments)
    # Before all else: the ranks count their start from here.
    os.environ[LAUNCHED_AT] = str(time.time())
    try:
        options = None if {"-h", "--help"} & set(trainer_options) else parse(trainer_options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code

    stop = StopFile(options.run_dir) if options and not options.only_evaluates else None
    if stop is None:  # nothing to checkpoint, and STOP is for the training, which may be at work
        signal.signal(signal.SIGTERM, leave)

    from torch.distributed import run as torchrun  # after the checks: it takes a second to import

    try:
        parsed: argparse.Namespace = torchrun.parse_args([*torchrun_options, "-m", WORKER, *trainer_options])
        rendezvous.prepare(parsed)
        set_threads(torchrun.determine_local_world_size(parsed.nproc_per_node))
    except (ValueError, SystemExit) as error:
        return usage_error(error)
    except UserError as error:
        print(error_text(error), file=sys.stderr)
        return error.code

    # The kernel's counter may hold kills of earlier programs, so it is read before the ranks start.
    memory = memory_kill.watch()
    job = Job(options, stop, memory, most_restarts(torchrun_options, parsed))
    code = run_cached(parsed, job)
    if code != EXIT_FINISHED:
        print(memory.report(LESS_MEMORY), end="", file=sys.stderr)

    if options and code not in (EXIT_FINISHED, EXIT_CONTINUE, EXIT_USAGE):
        print(hang_report(options.run_dir, options.attempt), end="", file=sys.stderr)

    if stop and options and options.attempt is None:  # a script looks at the file, and removes it, itself
        stop.take_back()

    return code


@dataclasses.dataclass(frozen=True)
class Job:
    """The facts that decide whether dead ranks start again."""

    options: Options | None
    stop: StopFile | None
    memory: memory_kill.MemoryWatch
    most_restarts: int

    def obstacle(self, codes: Mapping[int, int], notes: Mapping[int, Note], restarts: int) -> str:
        """Return the reason why the ranks do not start again, or an empty text."""
        if self.options is None or self.stop is None:
            return "this is no training"

        if self.stop.asked or self.stop.path.exists():
            return "a stop was requested"

        if self.memory.report(LESS_MEMORY):
            return "the kernel killed a process for memory"

        if hang_file(self.options.run_dir, attempt_of(self.options.run_dir, self.options.attempt)).exists():
            return "training hung"

        return obstacle(codes, notes, restarts, self.most_restarts)


def most_restarts(torchrun_options: Sequence[str], parsed: argparse.Namespace) -> int:
    """Return how often the ranks may start again: the value of torchrun's option, or the default."""
    words = [word.replace("-", "_") for word in torchrun_options]
    return parsed.max_restarts if any(word.startswith("__max_restarts") for word in words) else MAX_RESTARTS


def run_cached(parsed: argparse.Namespace, job: Job) -> int:
    """Run the ranks with compiled kernels of this node alone; their exit code."""
    cache = open_cache(os.environ)
    with contextlib.closing(NoteFolder()) as folder:
        code = run_in_place(parsed, job, folder)

    # Only after the last restart: a restarted rank uses the kernels that the dead one has compiled.
    if cache:
        cache.close(code)

    return code


def run_in_place(parsed: argparse.Namespace, job: Job, folder: NoteFolder) -> int:
    """Run the ranks, again if a restart may help. Return the exit code of the rank that caused the end."""
    restarts = 0
    patience = 0.0
    parsed.max_restarts = 0  # torchrun would start again whatever the ranks ended with

    while True:
        raised = run_ranks(again(parsed, restarts))
        died = time.time()
        # Before a restart, whose ranks write notes under the same names.
        notes = folder.take()
        code = exit_code(raised, notes)

        # A node without ranks is one that did not meet the others: they may still be ending.
        lost_others = raised is not None and is_multi_node(parsed) and not failures_of(raised)
        if lost_others and not notes and died < patience:
            time.sleep(MEETING_PAUSE_SECONDS)
            continue

        codes = first_failures({rank: failure.exitcode for rank, failure in failures_of(raised).items()})
        if is_multi_node(parsed):
            tell_other_nodes(codes, notes)

        # A node that is gone is treated like a rank that was killed.
        reason = job.obstacle({LOST_PEER: -signal.SIGKILL} if lost_others else codes, notes, restarts)
        if code == EXIT_FINISHED or reason:
            say_end(code, reason)
            linger(parsed, code)
            return code

        # The error's traceback keeps torchrun's frames alive, and with them the store of the last meeting.
        del raised
        restarts += 1
        patience = died + MEETING_SECONDS
        os.environ[LAUNCHED_AT] = str(time.time())
        os.environ[DIED_AT] = str(died)
        print(
            f"jobctl: the ranks start again in place, from the last checkpoint ({restarts} of {job.most_restarts})",
            file=sys.stderr,
        )


def again(parsed: argparse.Namespace, restarts: int) -> argparse.Namespace:
    """Return torchrun's options for one start. Each start needs its own rendezvous id."""
    options = argparse.Namespace(**vars(parsed))
    if restarts and is_multi_node(parsed):
        options.rdzv_id = f"{parsed.rdzv_id}-{restarts}"

    return options


def is_multi_node(parsed: argparse.Namespace) -> bool:
    """Return whether other nodes take part."""
    return parsed.nnodes not in ("1", "1:1")


def tell_other_nodes(codes: Mapping[int, int], notes: Mapping[int, Note]) -> None:
    """Tell the ranks of other nodes that one of this node has died, so that they do not wait for it."""
    from jobctl.trainer.lifecycle.investigation import tell_lost

    # After a stop all ranks end together; who is still at it must not be told of a death.
    died = [rank for rank, code in codes.items() if code not in (EXIT_CONTINUE, EXIT_USAGE, EXIT_BUSY)]
    exchanges = ((notes.get(rank, Note()).exchange, rank) for rank in died)
    # One death ends them all, and a store that is silent costs seconds at each call.
    if told := next((pair for pair in exchanges if pair[0]), None):
        tell_lost(*told)


def failures_of(error: BaseException | None) -> dict[int, Any]:
    """Return torch's records of the ranks of this node that have failed."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    return dict(error.failures) if isinstance(error, ChildFailedError) else {}


def say_end(code: int, reason: str) -> None:
    """Print why there is no restart, if a reader may expect one."""
    if code not in (EXIT_FINISHED, EXIT_CONTINUE, EXIT_USAGE, EXIT_BUSY):
        print(f"jobctl: no restart in place: {reason}", file=sys.stderr)


def linger(parsed: argparse.Namespace, code: int) -> None:
    """Let the other nodes end, whose meeting place may be here."""
    if code != EXIT_FINISHED and is_multi_node(parsed):
        time.sleep(LINGER_SECONDS)


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split torchrun's options from the trainer's at the first ``--``. Without it, all are the trainer's."""
    words = list(arguments)
    if "--" not in words:
        return ["--standalone"], words

    at = words.index("--")
    return words[:at], words[at + 1 :]


def error_text(error: UserError) -> str:
    """Print the error and its hint."""
    return f"error: {error.message}" + (f"\n  {error.hint}" if error.hint else "")


def usage_error(error: BaseException) -> int:
    if isinstance(error, SystemExit):  # argparse has printed what is wrong
        return EXIT_USAGE if error.code else EXIT_FINISHED
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USAGE


def set_threads(ranks: int) -> None:
    """Divide the cores among the ranks; torchrun would give each of them one."""
    # The cores that the scheduler gave, not all of the node's.
    cores = len(os.sched_getaffinity(0))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // ranks)))


def leave(number: int, _: FrameType | None) -> None:
    """End at once; the ranks die with their parent.

    Without a handler a container's first process ignores signals.
    """
    sys.exit(128 + number)


class StopFile:
    """Turns SIGTERM and SIGINT into the STOP file; a second SIGINT ends the launcher, and its ranks with it."""

    def __init__(self, run_dir: Path) -> None:
        self.path = stop_file(run_dir)
        self.asked = False
        signal.signal(signal.SIGTERM, self.ask)
        signal.signal(signal.SIGINT, self.ask)

    def ask(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self.asked:
            raise KeyboardInterrupt

        # Whoever cancels a job may send the signal every second until it has ended.
        if self.asked:
            return

        self.asked = True
        self.path.parent.mkdir(parents=True, exist_ok=True)

        # Appended, because others may have asked as well.
        with open(self.path, "a") as file:
            file.write(f"{LAUNCHER_WORDS}{signal.Signals(number).name}\n")

    def take_back(self) -> None:
        """Remove the stop file, if only this launcher asked for it and all ranks have obeyed.

        The same command then resumes.
        """
        try:
            if self.asked and all(
                line.startswith(LAUNCHER_WORDS) for line in self.path.read_text(errors="replace").splitlines()
            ):
                self.path.unlink()
        except OSError:  # somebody else has removed it
            pass


def run_ranks(parsed: argparse.Namespace) -> BaseException | None:
    """Start the ranks that torchrun's options name, and wait for them. Return torchrun's error."""
    from torch.distributed import run as torchrun

    logging.disable(logging.ERROR)  # torchrun's own log calls an exit with 200 a failure
    raised = in_thread(lambda: torchrun.run(parsed))
    logging.disable(logging.NOTSET)
    return raised


def in_thread(action: Callable[[], object]) -> BaseException | None:
    """Run ``action`` and return the error that it raised.

    torchrun installs signal handlers that kill the ranks after 30 seconds, but only in the main thread.
    """
    raised: list[BaseException] = []

    def guarded() -> None:
        try:
            action()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=guarded, name="torchrun", daemon=True)
    thread.start()

    while thread.is_alive():
        thread.join(0.5)  # with a timeout, so that signals are handled in between

    return raised[0] if raised else None


def exit_code(error: BaseException | None, notes: Mapping[int, Note] = NO_NOTES) -> int:
    """Return the code of the rank that caused the end, and print what it was doing."""
    if error is None:
        return EXIT_FINISHED

    failed = failures_of(error)
    if not failed:
        print(f"error: torchrun: {type(error).__name__}: {error}", file=sys.stderr)
        return EXIT_FAILED

    # `cause` takes the first of equal codes, so the failures are in the order of the deaths.
    failures = sorted(failed.items(), key=lambda item: item[1].timestamp)
    code = cause(code_of(failure.exitcode) for _, failure in failures)
    rank, failure = next(item for item in failures if code_of(item[1].exitcode) == code)
    if code not in (EXIT_BUSY, EXIT_CONTINUE, EXIT_USAGE):
        doing = f" {notes[rank]}" if rank in notes else ""
        print(
            f"error: rank {rank} (pid {failure.pid}) ended with {meaning(failure.exitcode)}{doing}",
            file=sys.stderr,
        )

    return code


def meaning(exitcode: int) -> str:
    return f"exit code {exitcode}" if exitcode >= 0 else signal.Signals(-exitcode).name


def end_with(action: Callable[[], int]) -> NoReturn:
    """Run ``action``, and end this process with the exit code that it returns, or that a signal handler raises."""
    try:
        code = action()
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else EXIT_FAILED

    with contextlib.suppress(OSError):  # nobody reads it any more
        sys.stdout.flush()

    # torchrun's thread may be about to print. Python's way out would wait for it in vain and abort, which hides
    # the code.
    os._exit(code)


if __name__ == "__main__":
    end_with(lambda: main(sys.argv[1:]))
