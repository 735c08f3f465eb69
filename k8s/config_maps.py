"""A run's record as a ConfigMap: any host that sees the cluster sees its runs."""

from __future__ import annotations

from pathlib import Path

import msgspec

from jobctl.jobs import kinds
from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.places import at_site
from jobctl.jobs.runs.records import parse_record
from jobctl.jobs.runs.store import Run
from jobctl.k8s import manifest, names
from jobctl.k8s.resources import Object

ELSEWHERE = "if another cluster or namespace has it: --context, --namespace"


def is_record(thing: Object) -> bool:
    """Return whether a ConfigMap is the record of a run, and not another ConfigMap of the same name."""
    run = (thing["metadata"].get("annotations") or {}).get(names.RUN_ANNOTATION, "")
    return bool(layout.RUN_NAME.fullmatch(run)) and "run.json" in (thing.get("data") or {})


def run_of(thing: Object, site: Site) -> Run:
    """Return the run of a ConfigMap, in the context that found it. Its name may differ on this host."""
    metadata = thing["metadata"]
    run = metadata["annotations"][names.RUN_ANNOTATION]
    name = kinds.job_name(run, (metadata.get("labels") or {}).get(names.COMPONENT, ""))
    record = parse_record(thing["data"]["run.json"], f"ConfigMap {metadata['name']}")
    record = msgspec.structs.replace(record, submitted=metadata.get("creationTimestamp") or "")
    unplaced = Run(name, Path(manifest.ROOT) / "runs" / run, record, ())

    return at_site(unplaced, context=site.kubernetes.context, namespace=site.kubernetes.namespace)


def no_record(run: Run) -> UserError:
    """Return the error for a run whose ConfigMap is gone."""
    return UserError(
        f"namespace {run.record.spec.site.kubernetes.namespace} has no record of run '{run.name}' "
        f"(ConfigMap {names.object_name(run.name)})",
        hint=ELSEWHERE,
        code=1,
    )
