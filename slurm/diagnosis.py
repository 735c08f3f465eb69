"""Find the problems of this machine as a place to submit Slurm jobs from."""

from __future__ import annotations

from collections.abc import Callable

from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.targets.protocol import Examination, Trouble
from jobctl.slurm.runtimes import KNOWN, is_here

PAGE = "docs/slurm.md"
CHECKS = 1


def examine(site: Site, ask: Callable[[list[str]], str]) -> Examination:
    """Look for the site's container runtime. ``ask`` runs one command of Slurm.

    If Slurm is not installed, this check sees nothing. The checks of the machine report that.
    """
    try:
        help_of_srun = ask(["srun", "--help"])
    except UserError:
        return Examination(checks=CHECKS, troubles=())

    runtime = _runtime_missing(site, help_of_srun)
    return Examination(checks=CHECKS, troubles=(runtime,) if runtime else ())


def _runtime_missing(site: Site, help_of_srun: str) -> Trouble | None:
    """Return the problem of a runtime that is not visible here. A module of the job may bring it to nodes."""
    runtime = KNOWN.get(site.container.runtime)
    if runtime is None or site.modules or is_here(runtime, help_of_srun):
        return None

    if runtime.plugin_option:
        evidence = f"srun --help does not name {runtime.plugin_option}"
        remedy = (
            "Choose another container.runtime; jobctl site new --target slurm lists those of this machine."
        )
    else:
        evidence = f"{runtime.program} is not on the PATH of this machine"
        remedy = "Name the environment module that provides it (modules: […]), or choose another container.runtime."

    return Trouble(
        check="container_runtime_missing",
        cause=f"The site's container runtime {runtime.name} is not on this machine, and probably not on the nodes.",
        evidence=evidence,
        remedy=remedy,
        page=PAGE,
    )
