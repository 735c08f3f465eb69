"""The words of a failed command of Slurm: whether to ask again, and whether the request may have arrived."""

from __future__ import annotations

from collections.abc import Iterable

from jobctl.slurm.hints import refusal_hint

_NOT_SENT = (
    "unable to contact slurm controller",
    "connection refused",
    "unable to connect to",
    "backup controller",
    "can't be reached now",
    "problem talking to the database",
)
"""Words of a command that has reached no controller."""
_UNANSWERED = (
    "socket timed out",
    "zero bytes were transmitted",
    "transport endpoint",
    "temporarily unable",
    "resource temporarily unavailable",
    "in standby mode",
    "unexpected message received",
    "connection reset",
)
"""Words of a command whose request may have arrived."""
_LASTING = ("known by database", "cannot stat file")
"""Words of an unknown cluster and of a missing configuration. The words above may be in the same answer."""
_NO_CLUSTER_OR_SILENT = "can't be reached now"
"""Words of Slurm for two cases: the controller of a cluster is down, or the site knows no other clusters."""
_NO_ACCOUNTS = "accounting storage is disabled"
_TRY = ", attempt number "
"""Words before the number of a try, in the lines of a command that tries again by itself."""


def passes(answer: str) -> bool:
    """Return whether the same command may succeed later."""
    answer = answer.lower()
    if any(words in answer for words in _LASTING):
        return False

    # A command that tried again by itself prints the reason of each try. Only the last line is the result.
    last = _last_line(answer)
    if refusal_hint(last) and not _is_of_a_silent_controller(last):
        return False

    return _is_of_a_silent_controller(answer)


def may_have_arrived(answer: str) -> bool:
    """Return whether the request of a command that ``passes`` may have reached a controller."""
    return any(words in answer.lower() for words in _UNANSWERED)


def is_no_cluster_or_silent(answer: str) -> bool:
    """Return whether the named cluster is silent or cannot exist. Slurm's words are the same."""
    return _NO_CLUSTER_OR_SILENT in answer.lower()


def keeps_no_accounts(answer: str) -> bool:
    """Return whether the site has no slurmdbd."""
    return _NO_ACCOUNTS in answer.lower()


def without_repetitions(lines: Iterable[str]) -> list[str]:
    """Return each line once, without the lines of single tries."""
    return [line for line in dict.fromkeys(lines) if _TRY not in line]


def _is_of_a_silent_controller(answer: str) -> bool:
    return any(words in answer for words in (*_NOT_SENT, *_UNANSWERED))


def _last_line(answer: str) -> str:
    return (answer.splitlines() or [""])[-1]
