"""``python -m jobctl.trainer`` and ``torchrun … -m jobctl.trainer``: one rank of a training job."""

from __future__ import annotations

import ctypes
import dataclasses
import faulthandler
import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.exit_codes import EXIT_FAILED, EXIT_HARDWARE
from jobctl.jobs.core.layout import rank_log
from jobctl.trainer.options import Options, parse, usage

PR_SET_PDEATHSIG = 1
HARDWARE_ERRORS = (
    "uncorrectable ecc error",
    "hardware stack error",
    "uncorrectable nvlink error",
    "invalid access of peer gpu memory over nvlink or a hardware error",
)
"""CUDA's words for errors that come from the GPU or its links, in lower case."""


def main(arguments: Sequence[str]) -> int:
    """Train, and return the exit code of the design: 0, 2, 200, or 1 for a failure."""
    if {"-h", "--help"} & set(arguments):
        print(usage())
        return 0

    # First of all: torchrun may be killed while this rank still imports torch.
    die_with_parent()
    try:
        options = parse(arguments)
    except UserError as error:
        return refuse(error)

    return run(options)


def run(options: Options) -> int:
    """Join the other ranks and train."""
    from jobctl.trainer import distributed as parallel
    from jobctl.trainer.lifecycle import flight_record
    from jobctl.trainer.lifecycle.watchdog import START_SECONDS
    from jobctl.trainer.reporting import ranklog
    from jobctl.trainer.training.session import collectives_timeout, train

    try:
        # The watchdog takes over when there is a log to write into.
        faulthandler.dump_traceback_later(START_SECONDS, exit=True)
        flight_record.switch_on()
        world = parallel.join(options.device, collectives_timeout(options))
        # Before the log is opened, because the log may go into the other folder.
        options = evaluation_beside(options)
        attempt, console = ranklog.begin(options.records, options.attempt, world)
    except UserError as error:
        return refuse(error)

    try:
        code = train(options, world, attempt, console)
        # After the last checkpoint: a rank that leaves early ends the exchange of the others.
        parallel.leave(world)
        return code
    except UserError as error:
        logging.getLogger("jobctl.trainer").error("%s", error)
        return error.code
    except BaseException as error:
        # The whole story goes into this rank's log, and one line to the console.
        traceback.print_exc()
        where = rank_log(options.records, attempt, world.rank)
        console.line(f"rank {world.rank} failed: {type(error).__name__}: {error}\n  its log: {where}")

        return EXIT_HARDWARE if is_hardware(error) else EXIT_FAILED


def evaluation_beside(options: Options) -> Options:
    """Let the evaluation of a run that may only be read write into a folder of its own, and say so."""
    if not options.only_evaluates or options.records_dir is not None or may_be_written(options.run_dir):
        return options

    folder = Path(tempfile.mkdtemp(prefix="jobctl-eval-"))
    if os.environ.get("RANK", "0") == "0":
        print(f"{options.run_dir} is read-only for you: logs and metrics of this evaluation are in {folder}")

    return dataclasses.replace(options, records_dir=folder)


def may_be_written(run_dir: Path) -> bool:
    """Return whether this user may add logs and metrics to a run, or make its directory."""
    if not run_dir.exists():
        return True

    folders = [run_dir, *(run_dir / name for name in ("logs", "metrics"))]
    return all(os.access(folder, os.W_OK | os.X_OK) for folder in folders if folder.exists())


def is_hardware(error: BaseException) -> bool:
    """Return whether a GPU is at fault and not a program, by the driver or by repeated work."""
    from jobctl.trainer.training.replay import WrongBits

    return isinstance(error, WrongBits) or any(words in str(error).lower() for words in HARDWARE_ERRORS)


def die_with_parent() -> None:
    """Ranks must not outlive torchrun: the next attempt would write into the same run beside them."""
    if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
        # SIGKILL, because a rank that hangs in a collective answers no other signal.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def refuse(error: UserError) -> int:
    """Print the error. If all ranks have the same error, only the first one prints it."""
    if error.code == EXIT_FAILED or os.environ.get("RANK", "0") == "0":
        print(f"error: {error}", file=sys.stderr)
    return error.code


if __name__ == "__main__":
    exit_code = main(sys.argv[1:])
    # os._exit flushes nothing by itself.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)  # all is closed; unwinding gloo's threads at exit can abort, and hide the code
