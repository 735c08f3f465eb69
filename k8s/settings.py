"""Settings that have no meaning in a pod. None is ignored: each is refused by its name."""

from __future__ import annotations

from typing import Any

import msgspec

from jobctl.jobs.catalog.schema.job import Resources
from jobctl.jobs.catalog.schema.keys import flat
from jobctl.jobs.catalog.schema.site import Site
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.job_spec import JobSpec, seconds
from jobctl.jobs.targets.registry import KUBERNETES_REFUSES

LONGEST_DAYS = 24_000
"""A pod keeps its seconds in 31 bits, and has some more of them than the job."""


def check_settings(spec: JobSpec) -> None:
    """Raise UserError for a setting that differs from its default and that no pod can honour."""
    values = _settings(spec.resources, spec.site)
    defaults = _settings(Resources(), Site())
    for key, hint in KUBERNETES_REFUSES.items():
        if values[key] != defaults[key]:
            raise UserError(f"{key}: Kubernetes has no such setting", hint=hint)

    if seconds(spec.resources.time_limit) > LONGEST_DAYS * 86400:
        raise UserError(
            f"time_limit {spec.resources.time_limit}: a pod's limit is at most {LONGEST_DAYS:,} days",
            hint="set a shorter one, for example 30-00:00:00",
        )

    if seconds(spec.resources.time_limit) == 0:
        raise UserError(
            f"time_limit {spec.resources.time_limit}: the pods would end at once",
            hint="0 means no limit only on Slurm; set a long limit, for example 30-00:00:00",
        )

    _check_topology(spec.site)
    section = spec.site.kubernetes
    if section.rdma_devices and not section.rdma_resource:
        raise UserError(
            f"kubernetes.rdma_devices is {section.rdma_devices}, but kubernetes.rdma_resource is not set",
            hint="kubernetes.rdma_resource=NAME, for example rdma/ib or vpc.amazonaws.com/efa",
        )


def _check_topology(site: Site) -> None:
    """Raise UserError for a topology that Kueue would refuse or never see."""
    section = site.kubernetes
    keys = [key for key in ("topology_required", "topology_preferred") if getattr(section, key)]
    if len(keys) > 1:
        raise UserError(
            f"kubernetes.{keys[0]} and kubernetes.{keys[1]}: Kueue accepts only one of them",
            hint="preferred: place pods near each other if possible; required: wait until it is possible",
        )

    if keys and not section.queue:
        raise UserError(
            f"kubernetes.{keys[0]}: only Kueue uses it, and the job is in no queue of Kueue",
            hint="kubernetes.queue=NAME",
        )


def _settings(resources: Resources, site: Site) -> dict[str, Any]:
    """Return settings by their keys. A missing key of ``KUBERNETES_REFUSES`` is a fault of that table."""
    return {**msgspec.to_builtins(resources), **flat(site)}
