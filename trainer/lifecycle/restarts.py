"""Decide whether the ranks of a node start again in place after a death, without a requeue."""

from __future__ import annotations

import signal
from collections.abc import Mapping

from jobctl.jobs.core.exit_codes import EXIT_FAILED, EXIT_HARDWARE
from jobctl.trainer.lifecycle.rank_notes import Note

MAX_RESTARTS = 3
"""Restarts of one attempt. A fault that comes back each time must end."""
ENDED_BY_SOMEBODY = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""Signals by which people and schedulers end a job. Such a job does not start again."""
TEMPORARY_ERRORS = (
    "nccl error",
    "nccl communicator was aborted",
    "cuda error",
    "cublas_status_execution_failed",
    "connection closed by peer",
    "connection reset by peer",
    "connection refused",
    "broken pipe",
    "socket timeout",
    "gloo connectfullmesh failed",
)
"""Words, in lower case, of errors that new processes may not meet again: a network's, a peer's, a context's."""
LASTING_ERRORS = ("device-side assert", "out of memory", "no kernel image", "invalid device function")
"""Words of errors that the same data and the same code give again."""


def error_heals(error: BaseException) -> bool:
    """Return whether an error of a rank may not come again after a restart."""
    text = str(error).lower()
    # Words that forbid a restart win: "CUDA error: out of memory" has some of both.
    return any(words in text for words in TEMPORARY_ERRORS) and not any(
        words in text for words in LASTING_ERRORS
    )


def first_failures(codes: Mapping[int, int]) -> dict[int, int]:
    """Return the exit codes of the ranks that failed, without those that torchrun ended after another's death.

    torchrun sends them SIGTERM, which kills a rank that has not reached its loop.
    """
    first = {rank: code for rank, code in codes.items() if code != -signal.SIGTERM}
    return first or dict(codes)


def obstacle(
    codes: Mapping[int, int], notes: Mapping[int, Note], restarts: int, most: int = MAX_RESTARTS
) -> str:
    """Return the reason why the ranks do not start again; empty if they do.

    ``codes`` are those of the ranks that have failed, as Python gives them: negative for a signal.
    """
    if not codes:
        return "no rank has failed"

    for rank, code in codes.items():
        if code == EXIT_HARDWARE:
            return f"rank {rank} met broken hardware"

        if code < 0:
            if -code in ENDED_BY_SOMEBODY:
                return f"rank {rank} was ended by {signal.Signals(-code).name}"
        elif code != EXIT_FAILED or not notes.get(rank, Note()).heals:
            return f"rank {rank} ended with exit code {code}, and a restart would not help"

    return f"the limit of {most} restarts is reached" if restarts >= most else ""
