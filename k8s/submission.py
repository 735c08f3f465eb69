"""Make a run's objects: all or none, and only once even after repeated requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import yaml

from jobctl.jobs import kinds
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.records import parse_record
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.k8s.names import COMPONENT, INSTANCE, RUN_ANNOTATION, is_ours, job_of, object_name
from jobctl.k8s.nodes import cannot_go, dead_pods
from jobctl.k8s.placement import distributed
from jobctl.k8s.pods import Pod, read_pod
from jobctl.k8s.refusals import Refused
from jobctl.k8s.resources import (
    CONFIG_MAP,
    JOB,
    POD,
    PYTORCHJOB,
    TRAINJOB,
    Kind,
    Object,
    kind_of,
    label_selector,
)
from jobctl.k8s.status import JOB_MARK, OWNER_MARK, ended

if TYPE_CHECKING:
    from jobctl.k8s.api import Api

GONE_SECONDS = 600.0
"""Seconds that the pods of a deleted job may take to save a checkpoint."""
POLL_SECONDS = 1.0


def served_kind(api: Api, spec: JobSpec, kind: Kind) -> Kind:
    """Return the kind for ``spec``: a Job, ``kind``, or TrainJob if only that operator is there.

    Raises UserError when the cluster has no operator for it.
    """
    # A Job is Kubernetes' own, so no operator has to be looked for.
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
            "; --target k8s uses Kubeflow's training operator"
            if kind is TRAINJOB and api.serves(PYTORCHJOB)
            else ""
        ),
        code=1,
    )


def objects_in(text: str) -> tuple[Object, Object]:
    """The ConfigMap and the job of a manifest."""
    # The C parser is many times as fast, but not every PyYAML has it.
    record, job = yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return record, job


def submit(
    api: Api, kind: Kind, text: str, *, replace_ended: bool, owner: str = "", prepare: Callable[[], None]
) -> bool:
    """Make the objects of the manifest. Return whether they are new.

    All is tried first by a strict dry run on the server. The ConfigMap is the claim on the run's name: of
    several submissions at once one makes it, and the others see it. ``prepare`` is called with the name
    claimed, before the job is made. Raises UserError when the name belongs to another spec, and when an
    object of that name was not made for this job.
    """
    record, job = objects_in(text)
    namespace = job["metadata"]["namespace"]
    name = job["metadata"]["name"]
    existing = api.get(kind, namespace, name)
    _check_ours(existing, record, kind)
    # An existing job cannot become this one by a patch, so this one is tried under a name of its own.
    tried = job if existing is None else _renamed(job, object_name(f"{name}-try"))

    # Both before anything is made: a refusal must leave nothing behind.
    for thing in (record, tried):
        api.apply(kind_of(thing), thing, dry_run=True)

    # The record comes before the job, whose pods read their script from it.
    claimed = _claim(api, record, replace=replace_ended, owner=owner)
    # The job exists already, so this is a second submission, or one whose answer got lost.
    if existing is not None and not (replace_ended and ended(existing)):
        return False

    if existing is not None:
        _remove(api, kind, existing)
    elif not claimed and not replace_ended and _has_begun(api, record):
        raise _exists(record, "its job no longer exists; to continue: jobctl resume")

    try:
        # The name is ours now, so copying code to the volume disturbs no other submission.
        prepare()
        _make(api, kind, job)
    except BaseException:
        if claimed:
            _withdraw(api, kind, record)

        raise

    return True


def _make(api: Api, kind: Kind, job: Object) -> None:
    """Make the job. Clear the notes about an earlier job of this name."""
    namespace = job["metadata"]["namespace"]
    name = job["metadata"]["name"]
    # Before the job: a mark that stays would end its status at once.
    api.annotate(CONFIG_MAP, namespace, name, cancelled=None, ended=None)
    made = api.apply(kind, job)
    # After the job: the mark says that it was made once, whatever becomes of it.
    api.annotate(CONFIG_MAP, namespace, name, job=made["metadata"]["uid"])


def _withdraw(api: Api, kind: Kind, record: Object) -> None:
    """Take back a refused submission, with its job. The job may exist although no answer came."""
    namespace = record["metadata"]["namespace"]
    name = record["metadata"]["name"]
    existing = api.get(kind, namespace, name)
    if existing is not None and _is_for(existing, record):
        api.delete(kind, namespace, name)

    # Last, because the name is free for others from now on.
    api.delete(CONFIG_MAP, namespace, name)


def _is_for(thing: Object, record: Object) -> bool:
    """Return whether an object was made for the job of ``record``: the same run and the same step."""
    metadata = record["metadata"]
    run = metadata["annotations"][RUN_ANNOTATION]
    step = metadata["labels"][COMPONENT]

    return is_ours(thing, run, step if step in kinds.ON_A_CHECKPOINT else "")


def _check_ours(existing: Object | None, record: Object, kind: Kind) -> None:
    """Raise UserError if an object has the name of this job, but was made for something else."""
    if existing is None or _is_for(existing, record):
        return

    metadata = existing["metadata"]
    run = (metadata.get("annotations") or {}).get(RUN_ANNOTATION, "")
    whose = f"run '{run}'" if run else "somebody else"
    raise UserError(
        f"{kind.name} {metadata['name']} in namespace {metadata['namespace']} was made for {whose}",
        hint="choose another name: --run",
    )


def _renamed(job: Object, name: str) -> Object:
    return {**job, "metadata": {**job["metadata"], "name": name}}


def _claim(api: Api, record: Object, *, replace: bool, owner: str) -> bool:
    """Take the run's name. Return False if this very submission was made before."""
    metadata = record["metadata"]
    mark = {OWNER_MARK: owner} if owner else {}
    marked = {**record, "metadata": {**metadata, "annotations": {**metadata["annotations"], **mark}}}
    # The server creates an object in one step, so only one of two submissions gets the name.
    try:
        api.create(CONFIG_MAP, marked)
        return True
    except Refused as refusal:
        if refusal.status != 409:
            raise

    existing = api.get(CONFIG_MAP, metadata["namespace"], metadata["name"])
    _check_ours(existing, record, CONFIG_MAP)
    if replace:
        api.apply(CONFIG_MAP, marked)
        return False

    if existing is None or not _is_same_job(existing, record):
        raise _exists(record, "it has other settings; choose another name: --run")

    return False


def _is_same_job(existing: Object, record: Object) -> bool:
    """Return whether the cluster's record is of this very job, made by any version of jobctl."""
    text = (existing.get("data") or {}).get("run.json", "")
    if not text:
        return False

    name = record["metadata"]["name"]
    before = parse_record(text, f"ConfigMap {name}").spec

    return before.fingerprint() == parse_record(record["data"]["run.json"], "manifest").spec.fingerprint()


def _has_begun(api: Api, record: Object) -> bool:
    """Whether the job was made once: else an earlier submission broke off between the record and the job."""
    metadata = record["metadata"]
    existing = api.get(CONFIG_MAP, metadata["namespace"], metadata["name"]) or {}

    return JOB_MARK in (existing.get("metadata", {}).get("annotations") or {})


def _exists(record: Object, how: str) -> UserError:
    metadata = record["metadata"]
    return UserError(
        f"run '{metadata['annotations'][RUN_ANNOTATION]}' exists in namespace {metadata['namespace']}",
        hint=how,
        code=2,
    )


def restart(api: Api, text: str, run_json: str) -> str:
    """Make an ended or deleted job again from the manifest ``text``. Return its name.

    ``run_json`` becomes its record.

    Raises UserError while the job has not ended, and where the server refuses the new one in a dry run; then
    nothing has changed.
    """
    record, job = objects_in(text)
    record["data"]["run.json"] = run_json
    kind = kind_of(job)
    namespace = job["metadata"]["namespace"]
    name = job["metadata"]["name"]
    # Before the old job goes. If the new one is refused, the old one and its logs stay.
    api.apply(kind, _renamed(job, object_name(f"{name}-try")), dry_run=True)

    if existing := api.get(kind, namespace, name):
        _check_ours(existing, record, kind)
        _remove(api, kind, existing)

    # The pods read their script from the record.
    api.apply(CONFIG_MAP, record)
    _make(api, kind, job)

    return str(name)


def _remove(api: Api, kind: Kind, job: Object) -> None:
    """Delete a job and wait until it is gone, because a new job needs its name."""
    namespace = job["metadata"]["namespace"]
    name = job["metadata"]["name"]
    run = job_of(job)
    if not ended(job) and not job["metadata"].get("deletionTimestamp"):
        raise UserError(
            f"job {name} has not ended", hint=f"jobctl cancel {run}, or jobctl wait {run}", code=1
        )

    # Its pods go first: those of the new job have the same names.
    api.delete(kind, namespace, name, last=True)
    deadline = time.monotonic() + GONE_SECONDS

    while (existing := api.get(kind, namespace, name)) is not None:
        # Compare the uids, because the names are equal. Another uid is the job of another submission.
        if existing["metadata"]["uid"] != job["metadata"]["uid"]:
            raise UserError(f"somebody else created job {name} again at this moment", code=1)

        dead = dead_pods(api, pods_made_by(api, existing))
        if dead or time.monotonic() > deadline:
            raise cannot_go(name, run, dead)

        time.sleep(POLL_SECONDS)


def pods_made_by(api: Api, job: Object) -> list[Pod]:
    """Return the pods of a job, by the labels that it gives them."""
    labels = job["metadata"].get("labels") or {}
    chosen = {key: labels[key] for key in (INSTANCE, COMPONENT) if key in labels}
    return [
        read_pod(pod)
        for pod in api.list_all(POD, job["metadata"]["namespace"], labelSelector=label_selector(chosen))
    ]
