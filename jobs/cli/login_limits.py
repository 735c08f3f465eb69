"""Errors for actions that a verb cannot do on a login node for a user of another machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.layout import tensorboard_dir
from jobctl.jobs.core.tokenizer_files import is_folder

FORWARD = "forward"
EXPORTER = "exporter"


def is_of_the_login(verb: str, options: Mapping[str, Any], host: str) -> bool:
    """Return whether a verb acts on the login node with these options.

    Raises UserError for a verb that cannot act there, and would find no run here.
    """
    if verb == FORWARD:
        run = options["run"]
        raise UserError(
            f"forward: the files of run '{run}' are on {host}, and no pod can show them",
            hint=f"jobctl collect {run} -o {run}, then tensorboard --logdir {tensorboard_dir(Path(run))}",
        )

    if verb == EXPORTER and not options["once"]:
        # The dashboard is a text about no particular run.
        if options["as_dashboard"]:
            return False

        raise UserError(
            f"exporter: the runs are on {host}, and a server there would end with the connection",
            hint=f"start it there: ssh {host}, then jobctl exporter --address 0.0.0.0",
        )

    return True


def refuse_what_stays_here(options: Mapping[str, Any], host: str) -> None:
    """Raise UserError for an option that names files of this machine."""
    if options.get("patch"):
        raise UserError(
            f"--patch: the jobs run on {host} and cannot read this machine's files",
            hint=f"copy the source tree to {host} and submit there; or put it into an image: --image REF",
        )

    tokenizer = options.get("tokenizer")
    if tokenizer and is_folder(tokenizer):
        name = Path(tokenizer).name
        raise UserError(
            f"--tokenizer {tokenizer}: the jobs run on {host} and cannot read this machine's files",
            hint=f"copy it to tokenizers/{name} in the root on {host}, then use --tokenizer {name}",
        )

    if options.get("notify"):
        raise UserError(
            f"--notify: the command of the project file would run on {host}",
            hint=f"start jobctl watch --notify on {host}",
        )
