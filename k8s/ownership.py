"""The owner of a run: the user name of the submission on the API server."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.ownership import EVERYONE
from jobctl.jobs.core.text import visible
from jobctl.jobs.runs.store import Run


def tell(message: str) -> None:
    """Tell the user something, beside the output of the command."""
    print(visible(f"jobctl: {message}"), file=sys.stderr, flush=True)


def is_another(owner: str, user: str) -> bool:
    """Return whether a run belongs to another user. An unknown owner does not count as another user."""
    return bool(owner and user and owner != user)


def tell_owner(run: Run, owner: str, user: str) -> None:
    """Name the owner of a run if it belongs to another user."""
    if is_another(owner, user):
        tell(f"note: run '{run.name}' belongs to {owner}")


def check_owner(run: Run, owner: str, user: str, trusted: Sequence[str]) -> None:
    """Raise UserError for the run of another user who is not among the ``trusted``."""
    if is_another(owner, user) and owner not in trusted and EVERYONE not in trusted:
        raise UserError(
            f"run '{run.name}' belongs to {owner}",
            hint=f"to use it anyway: --trust-owner {owner}",
            code=1,
        )
