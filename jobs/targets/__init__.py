"""Which target is which. A scheduler's own client is imported when the target is asked for, not before."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from jobctl.jobs.core.errors import UserError, nearest

if TYPE_CHECKING:
    from jobctl.jobs.targets.protocol import Target

_MODULES = {
    "local": "jobctl.jobs.targets.local",
    "slurm": "jobctl.slurm.target",
    "docker": "jobctl.jobs.targets.docker",
    "k8s": "jobctl.k8s.pytorchjob",
    "k8s-trainjob": "jobctl.k8s.trainjob",
}


def target(name: str) -> Target:
    """The target called ``name``. Raises UserError for a name that is none."""
    if name not in _MODULES:
        raise UserError(f"unknown target '{name}'; {nearest(name, _MODULES)}")
    found: Target = importlib.import_module(_MODULES[name]).TARGET
    return found
