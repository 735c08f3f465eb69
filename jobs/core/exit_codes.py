"""The exit codes of a job's processes: the meaning of each, and which of several codes is the cause.

Many processes work on one job. When one ends, the others end because of it, with other codes.
``CODES`` says which code led to the others. Python uses it within a node (``trainer/launch.py``). The shell
gets it as ``EXIT_RANKS`` and uses it over all nodes or pods (``templates/shell/exit_codes.sh``).
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import NamedTuple

EXIT_FINISHED = 0
EXIT_FAILED = 1
"""Any failure that no other code names."""
EXIT_USAGE = 2
"""Wrong usage or configuration. The job is never retried."""
EXIT_BUSY = 75
"""Another attempt already trains in the run directory (EX_TEMPFAIL of sysexits.h)."""
EXIT_HUNG_UP = 128 + signal.SIGHUP
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_ABORTED = 128 + signal.SIGABRT
EXIT_TERMINATED = 128 + signal.SIGTERM
"""A signal ended the process. The code is 128 + the signal, as a shell reports it."""
EXIT_CONTINUE = 200
"""The process saved a checkpoint and must continue. The scheduler starts the job again without a failure."""
EXIT_HARDWARE = 201
"""A GPU of this node failed. The next attempt avoids the node."""

LAST_SIGNAL = 64
"""The largest number of a signal on Linux."""
SIGNAL_RANK = 2
"""Rank of ``128 + n`` for most signals. A process that crashes or is killed makes its peers end too."""
OTHER_RANK = 3
"""Rank of a code outside the table. The program itself failed: the end of a peer never gives such a code."""
UNKNOWN_REASON = "failed"
"""Reason of an attempt that ended with a code outside the table."""


class Meaning(NamedTuple):
    """One row of the table."""

    code: int
    rank: int
    """The code with the lowest rank is the cause. If several have this rank, the first one is."""
    reason: str
    """The reason in the record of an attempt if nothing but this code is known."""


CODES = (
    # Each retry would end in the same way. The user has to act, whatever the other processes report.
    Meaning(EXIT_USAGE, 0, "configuration"),
    # The peers of a GPU that failed hang, abort or are killed. The next attempt must avoid the node.
    Meaning(EXIT_HARDWARE, 1, "hardware"),
    # Like any signal, but a person sent it: the attempt was cancelled.
    Meaning(EXIT_HUNG_UP, SIGNAL_RANK, "cancelled"),
    Meaning(EXIT_INTERRUPTED, SIGNAL_RANK, "cancelled"),
    # NCCL's watchdog aborts a process whose peer has ended. So an abort may be the result of another
    # failure.
    Meaning(EXIT_ABORTED, 4, "failed"),
    # All processes checkpoint the same step before one of them ends with 200. A later failure loses nothing.
    Meaning(EXIT_CONTINUE, 5, "stopped"),
    # The process that finds another attempt ends at once, and its peers fail with 1. The run itself has no
    # fault.
    Meaning(EXIT_BUSY, 6, "busy"),
    # A trainer that loses a peer raises an exception and ends with 1.
    Meaning(EXIT_FAILED, 7, "failed"),
    # Launchers and schedulers end the remaining processes with SIGTERM.
    Meaning(EXIT_TERMINATED, 8, "cancelled"),
    Meaning(EXIT_FINISHED, 9, "finished"),
)
"""The codes with a meaning, the most likely cause first."""

STARTED_AGAIN = (*range(129, 128 + LAST_SIGNAL + 1), EXIT_CONTINUE)
"""The codes after which Kubernetes starts a pod again: it must continue, or a signal ended it."""

EXIT_KILLED = 128 + signal.SIGKILL
"""The exit code of a container that the kernel killed for its memory."""
STARTED_IN_PLACE = tuple(code for code in STARTED_AGAIN if code != EXIT_KILLED)
"""The codes after which the kubelet may start a container again in its pod: it ended in order."""

_BY_CODE = {row.code: row for row in CODES}


def code_of(returncode: int) -> int:
    """Return the exit code as a shell gives it. It is 128 + n if signal n ended the process."""
    return 128 - returncode if returncode < 0 else returncode


def rank_of(code: int) -> int:
    """Return how close ``code`` is to the cause. 0 is the closest."""
    if code in _BY_CODE:
        return _BY_CODE[code].rank
    return SIGNAL_RANK if 128 < code <= 128 + LAST_SIGNAL else OTHER_RANK


def cause(codes: Iterable[int]) -> int:
    """Return the code that led to the others: the first one with the lowest rank."""
    return min(codes, key=rank_of)
