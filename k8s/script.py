"""The script that runs in each pod of a job."""

from __future__ import annotations

from typing import Any

from jobctl.jobs.render import EVERY_SCRIPT, render_template
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.k8s.placement import distributed

FUNCTIONS = (
    *EVERY_SCRIPT,
    "retries",
    "supervise",
    "kubernetes/clock",
    "kubernetes/ending",
    "kubernetes/rank_logs",
    "kubernetes/run",
)
"""Files of shell functions that every job calls."""


def pods_meet(spec: JobSpec) -> bool:
    """Return whether several pods work as one program, so that they have to meet first."""
    return distributed(spec) and spec.resources.nodes > 1


def function_files(spec: JobSpec) -> list[str]:
    """Return the files of shell functions that the job calls, as ``functions`` of a template takes them."""
    site = spec.site
    needed = {
        "kubernetes/pods": pods_meet(spec),
        "kubernetes/workers": not pods_meet(spec),
        "kubernetes/secret_folder": bool(site.kubernetes.secret),
        "environment": bool(site.modules or site.project_dir),
        "kubernetes/preflight": spec.checked,
    }

    return [*FUNCTIONS, *(name for name, is_needed in needed.items() if is_needed)]


def render(spec: JobSpec, context: dict[str, Any]) -> str:
    """Return the script of ``spec``, with the values of its manifest as ``context``."""
    values = {"pods_meet": pods_meet(spec), "function_files": function_files(spec)}
    return render_template("kubernetes/script.sh.j2", context | values)
