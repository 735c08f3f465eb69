"""The section ``notify`` of a project file.

Every command reads that file, so this module imports nothing else.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Kind = Literal["end", "failure", "nan", "stall", "requeue"]
KINDS: tuple[Kind, ...] = ("end", "failure", "nan", "stall", "requeue")


class Notify(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The receivers to which ``jobctl watch --notify`` sends the events of runs."""

    webhook_variable: Annotated[
        str,
        Meta(pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$", description="variable that holds the webhook's address"),
    ] = ""
    command: Annotated[
        tuple[str, ...],
        Meta(description="program and its arguments; it reads the event as JSON from standard input"),
    ] = ()
    on: Annotated[tuple[str, ...], Meta(description="end, failure, nan, stall, requeue")] = KINDS
