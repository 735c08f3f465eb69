"""Settings that only another scheduler reads.

A site file may have them, but ``--set`` refuses them and names the right key.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobctl.jobs.catalog.schema.keys import split_key
from jobctl.jobs.catalog.schema.site import SCHEDULERS
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.targets.registry import TargetEntry


def refuse_foreign(sets: Sequence[str], target: TargetEntry) -> None:
    """Raise UserError for a ``--set`` of a key that only another scheduler than that of ``target`` reads.

    A target without a scheduler accepts any key, so that the same project can be tried on this machine.
    """
    if not target.section:
        return

    for text in sets:
        key, _ = split_key(text.partition("=")[0])
        section = key.partition(".")[0]
        if section in SCHEDULERS and section != target.section:
            raise UserError(
                f"--set {text}: target {target.name} does not read {key}", hint=target.instead.get(key, "")
            )
