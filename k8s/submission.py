"""Making a run's objects: all of them or none, and once however often it is asked for."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import yaml

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.records import parse_record
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.k8s.manifest import distributed
from jobctl.k8s.names import RUN_ANNOTATION, object_name
from jobctl.k8s.refusals import Refused
from jobctl.k8s.resources import CONFIG_MAP, JOB, PYTORCHJOB, TRAINJOB, Kind, Object, kind_of
from jobctl.k8s.status import ended

if TYPE_CHECKING:
    from jobctl.k8s.api import Api

GONE_SECONDS = 600.0
"""How long a deleted job's pods may take to checkpoint."""
POLL_SECONDS = 1.0


def served_kind(api: Api, spec: JobSpec, kind: Kind) -> Kind:
    """The kind that ``spec`` becomes: a Job, ``kind``, or TrainJob where PyTorchJob was meant and only that is there.

    Raises UserError when the cluster has no operator for it.
    """
    if not distributed(spec):
        return JOB

    if api.serves(kind):
        return kind

    if kind is PYTORCHJOB and api.serves(TRAINJOB):
        return TRAINJOB

    raise UserError(
        f"the cluster serves no {kind.name}: {kind.operator} is not installed",
        hint="docs/kubernetes.md says how to install it"
        + (
            "; --target k8s takes Kubeflow's training operator"
            if kind is TRAINJOB and api.serves(PYTORCHJOB)
            else ""
        ),
        code=1,
    )


def objects_in(text: str) -> tuple[Object, Object]:
    """The ConfigMap and the job of a manifest."""
    record, job = yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return record, job


def job_in(text: str) -> Object:
    return objects_in(text)[1]


def submit(api: Api, kind: Kind, text: str, *, replace_ended: bool) -> bool:
    """Make what the manifest says; whether it was not there yet.

    All is tried first by a strict dry run on the server. The ConfigMap is the claim on the run's name: of several
    submissions at once one makes it, and the others find it. Raises UserError when the name belongs to another spec.
    """
    record, job = objects_in(text)
    record["data"]["job.json"] = json.dumps(job, sort_keys=True)
    namespace = job["metadata"]["namespace"]
    name = job["metadata"]["name"]
    there = api.get(kind, namespace, name)
    # A job that is there cannot become this one by a patch, so this one is tried under a name of its own.
    tried = job if there is None else _renamed(job, object_name(f"{name}-try"))

    for thing in (record, tried):
        api.apply(kind_of(thing), thing, dry_run=True)

    claimed = _claim(api, record, replace=replace_ended)
    if there is not None and not (replace_ended and ended(there)):
        return False

    if there is not None:
        _remove(api, kind, namespace, name)
    elif not claimed and not replace_ended and _has_begun(api, record):
        raise _exists(record, "and its job is gone; go on with it: jobctl resume")

    try:
        made = api.apply(kind, job)
    except BaseException:
        if claimed:  # the job as well: it may have been made when nobody heard the answer
            api.delete(kind, namespace, name)
            api.delete(CONFIG_MAP, namespace, name)

        raise

    api.annotate(CONFIG_MAP, namespace, name, job=made["metadata"]["uid"])

    return True


def _renamed(job: Object, name: str) -> Object:
    return {**job, "metadata": {**job["metadata"], "name": name}}


def _claim(api: Api, record: Object, *, replace: bool) -> bool:
    """Whether the run's name is ours now; False when this very submission was made before."""
    try:
        api.create(CONFIG_MAP, record)
        return True
    except Refused as refusal:
        if refusal.status != 409:
            raise

    if replace:
        api.apply(CONFIG_MAP, record)
        return False

    if not _is_same_job(api, record):
        raise _exists(record, "with other settings; take another name: --run")

    return False


def _is_same_job(api: Api, record: Object) -> bool:
    """Return whether the record that the cluster has is of this very job, whatever version of jobctl made it."""
    metadata = record["metadata"]
    existing = api.get(CONFIG_MAP, metadata["namespace"], metadata["name"]) or {}
    text = existing.get("data", {}).get("run.json", "")
    if not text:
        return False

    before = parse_record(text, f"ConfigMap {metadata['name']}").spec

    return before.fingerprint() == parse_record(record["data"]["run.json"], "manifest").spec.fingerprint()


def _annotations(api: Api, record: Object) -> dict[str, str]:
    metadata = record["metadata"]
    there = api.get(CONFIG_MAP, metadata["namespace"], metadata["name"])
    return (there or {}).get("metadata", {}).get("annotations") or {}


def _has_begun(api: Api, record: Object) -> bool:
    """Whether the job was made once: else an earlier submission broke off between the record and the job."""
    return "jobctl/job" in _annotations(api, record)


def _exists(record: Object, how: str) -> UserError:
    metadata = record["metadata"]
    return UserError(
        f"run '{metadata['annotations'][RUN_ANNOTATION]}' exists in namespace {metadata['namespace']}",
        hint=how,
        code=2,
    )


def replace(api: Api, text: str, run_json: str) -> Object:
    """Keep the manifest ``text`` for the later attempts of a run, with its record ``run_json``; the ConfigMap.

    Raises UserError where the server refuses it in a dry run; then nothing has changed.
    """
    record, job = objects_in(text)
    record["data"] |= {"job.json": json.dumps(job, sort_keys=True), "run.json": run_json}
    api.apply(kind_of(job), _renamed(job, object_name(f"{job['metadata']['name']}-try")), dry_run=True)
    api.apply(CONFIG_MAP, record)

    return record


def restart(api: Api, job: Object) -> str:
    """Make an ended or deleted job again; its name."""
    kind = kind_of(job)
    namespace = job["metadata"]["namespace"]
    name = job["metadata"]["name"]
    _remove(api, kind, namespace, name)
    made = api.apply(kind, job)
    api.annotate(CONFIG_MAP, namespace, name, job=made["metadata"]["uid"])

    return str(name)


def _remove(api: Api, kind: Kind, namespace: str, name: str) -> None:
    """Delete a job and wait until it is gone, for its name is wanted again."""
    there = api.get(kind, namespace, name)
    if there is None:
        return

    if not ended(there):
        raise UserError(f"job {name} has not ended", hint="jobctl cancel RUN, or jobctl wait RUN", code=1)

    api.delete(kind, namespace, name, last=True)
    deadline = time.monotonic() + GONE_SECONDS

    while api.get(kind, namespace, name) is not None:
        if time.monotonic() > deadline:
            raise UserError(f"the ended job {name} cannot be deleted: a finalizer holds it", code=1)

        time.sleep(POLL_SECONDS)
