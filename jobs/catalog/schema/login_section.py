"""The section ``login`` of a site: the machine on which jobctl acts for a user of another one.

No job reads it.
"""

from typing import Annotated

import msgspec
from msgspec import Meta


class LoginSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a machine outside the cluster reaches it."""

    host: Annotated[
        str,
        Meta(description="login node in ssh's form (user@host); empty: this machine can reach Slurm itself"),
    ] = ""
    jobctl: Annotated[str, Meta(description="jobctl on the login node: a command or a path")] = "jobctl"
