"""Whose a run is: the user whom the API server took the submission for."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.ownership import EVERYONE
from jobctl.jobs.core.text import visible
from jobctl.jobs.runs.store import Run


def tell(message: str) -> None:
    """Say something to the user, beside the output of the command."""
    print(visible(f"jobctl: {message}"), file=sys.stderr, flush=True)


def is_another(owner: str, user: str) -> bool:
    """Whether a run is somebody else's. Who is not known is not somebody else."""
    return bool(owner and user and owner != user)


def tell_owner(run: Run, owner: str, user: str) -> None:
    """Say whose run it is, where it is not this user's."""
    if is_another(owner, user):
        tell(f"note: run '{run.name}' is {owner}'s")


def check_owner(run: Run, owner: str, user: str, trusted: Sequence[str]) -> None:
    """Raise UserError for the run of another user who is not among the ``trusted``."""
    if is_another(owner, user) and owner not in trusted and EVERYONE not in trusted:
        raise UserError(
            f"run '{run.name}' is {owner}'s",
            hint=f"--trust-owner {owner} goes on with it all the same",
            code=1,
        )
