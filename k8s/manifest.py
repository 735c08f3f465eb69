"""Spec to manifest: a ConfigMap with what the pods run, and the object that an operator makes the pods of."""

from __future__ import annotations

import re
from typing import Any

import yaml

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.ownership import EVERYONE
from jobctl.jobs.render import (
    Verbatim,
    gpu_environment,
    job_environment,
    payload_context,
    quote_yaml,
    render_template,
)
from jobctl.jobs.spec.job_spec import JobSpec, seconds
from jobctl.jobs.targets import registry
from jobctl.k8s import names, script
from jobctl.k8s.placement import JOB_FILES, SECRETS, distributed, placement, topology
from jobctl.k8s.pod_options import merged
from jobctl.k8s.resources import PYTORCHJOB, TRAINJOB, Kind, Object
from jobctl.k8s.settings import check_settings

ROOT = registry.VOLUME
"""$JOBCTL_ROOT in every pod: where the claim is mounted."""
PORT = 23456
TTL_SECONDS = 7 * 24 * 3600
"""Seconds for which a finished job and the logs of its pods stay."""
LAST_WORDS_SECONDS = 60
"""Seconds for which a failed pod waits for the reports of the others."""
KILL_SECONDS = 30
"""Seconds between SIGTERM and SIGKILL at the time limit, as Slurm's default has it."""
START_SECONDS = 1800
"""Seconds for which a pod waits for the others of its attempt. Their nodes may first pull a large image."""

OPERATORS_INIT: Object = {
    "name": names.OPERATORS_INIT_CONTAINER,
    "image": "alpine:3.10",
    "command": ["sh", "-c", "true"],
    "resources": {
        "requests": {"cpu": "50m", "memory": "10Mi"},
        "limits": {"cpu": "100m", "memory": "20Mi"},
    },
}
"""What the training operator 1.9 adds to each worker, as far as a namespace's policies look at it."""
PYTORCHJOB_CONTAINER = "pytorch"
"""The name of a training's container that the training operator requires."""
TRAINJOB_CONTAINER = "node"
"""The name of a training's container in Trainer v2."""
DEAD_NODE_SECONDS = 60
"""Seconds for which pods stay on a node that does not answer."""

SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_UNPRINTABLE = re.compile(r"[^\t\n -~]")


def render(spec: JobSpec, template: str, container: str, pod_template: str) -> str:
    """The manifest of ``spec`` by ``template``; its pods are written by ``pod_template``.

    Raises UserError for what a site says that Kubernetes has no counterpart of.
    """
    context = _context(spec, container)
    context["run_json"] = literal_block(f"{context['record']}\n", 4)
    context["script"] = literal_block(script.render(spec, context), 4)
    context["stop"] = literal_block(render_template("kubernetes/stop.sh.j2", context), 4)
    pods = _with_options(spec, render_template(f"kubernetes/{pod_template}", context), container)
    # Each pod of such a job works for itself, and needs no operator that introduces them to each other.
    if not distributed(spec):
        template = "job.yaml.j2"

    # jinja2 keeps the column of an expression for its first line only.
    columns = {"pytorchjob.yaml.j2": 8, "trainjob.yaml.j2": 22, "job.yaml.j2": 4}
    context["pod_template"] = Verbatim(indented(pods.rstrip("\n"), columns[template]))

    return render_template(f"kubernetes/{template}", context)


def _with_options(spec: JobSpec, text: str, container: str) -> str:
    """Return the pod template ``text`` with ``kubernetes.pod``. Without options it keeps its comments."""
    options = spec.site.kubernetes.pod
    if not options:
        return text

    kind = TRAINJOB if container == TRAINJOB_CONTAINER else PYTORCHJOB
    template = merged(yaml.load(text, Loader=SafeLoader), options, kind)

    return yaml.dump(template, Dumper=PlainDumper, sort_keys=False, default_flow_style=False)


class PlainDumper(yaml.SafeDumper):
    """Writes equal lists twice, and not as a reference to the first."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return that no value is written as a reference."""
        return True


def pod_of(spec: JobSpec, kind: Kind) -> Object:
    """Return a pod like those that the operator of ``kind`` makes of ``spec``, for a dry run."""
    container = {PYTORCHJOB: PYTORCHJOB_CONTAINER, TRAINJOB: TRAINJOB_CONTAINER}.get(kind, "jobctl")
    text = render_template("kubernetes/pod_template.yaml.j2", _context(spec, container))
    template = merged(yaml.load(text, Loader=SafeLoader), spec.site.kubernetes.pod, PYTORCHJOB)
    # The operator sets the policy, so the template does not have it.
    pod_spec = {"restartPolicy": "Never", **template["spec"]}
    if kind == PYTORCHJOB and spec.resources.nodes > 1:
        pod_spec["initContainers"] = [OPERATORS_INIT]

    name = names.object_name(f"{names.job_name(spec)}-try")
    metadata = {**template["metadata"], "name": name, "namespace": spec.site.kubernetes.namespace}

    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec}


def indented(text: str, columns: int) -> str:
    """``text`` with all lines but the first moved to the right; empty ones stay empty."""
    end = "\n" + " " * columns
    moved = text.replace("\n", end)
    blank = f"{end}\n"
    return moved.replace(blank, "\n\n").replace(blank, "\n\n")  # twice: two empty lines overlap


def literal_block(text: str, columns: int) -> Verbatim:
    """``text`` as a YAML scalar that people can read; quoted where a literal block could not hold it."""
    if _UNPRINTABLE.search(text) or text[:1] in ("", " ", "\n"):
        return Verbatim(quote_yaml(text))
    return Verbatim("|\n" + " " * columns + indented(text.rstrip("\n"), columns))


def _metadata(spec: JobSpec, run: str, spec_hash: str, container: str) -> dict[str, Any]:
    """Return names, labels and annotations of the objects."""
    labels = names.labels(spec, run)
    queue = {names.QUEUE_LABEL: spec.site.kubernetes.queue} if spec.site.kubernetes.queue else {}
    # A mesh's proxy would outlive the job's container, and stand between the ranks.
    no_proxy = {"sidecar.istio.io/inject": "false"}
    return {
        "version": Verbatim(spec.version),
        "job": names.job_name(spec),
        "labels": labels,
        "job_labels": labels | queue,
        "annotations": {names.RUN_ANNOTATION: run, names.HASH_ANNOTATION: spec_hash},
        "pod_labels": labels | no_proxy,
        "pod_annotations": {names.RUN_ANNOTATION: run}
        | no_proxy
        | topology(spec, container == PYTORCHJOB_CONTAINER),
        "selector": names.selector(run),
    }


def _context(spec: JobSpec, container: str) -> dict[str, Any]:
    assert spec.run is not None
    check_settings(spec)
    site = spec.site
    resources = spec.resources
    if site.pass_env and not site.kubernetes.secret:
        raise UserError(
            f"pass_env {', '.join(site.pass_env)}: Kubernetes accepts secrets only by reference",
            hint="kubectl create secret generic NAME --from-literal=…, and --set kubernetes.secret=NAME",
        )

    context = payload_context(spec)
    times = _times(spec)

    return context | {
        # Only pods of this namespace write the volume, and many volumes show one owner and mode for all
        # files.
        "trusted": (EVERYONE,),
        **_metadata(spec, spec.run, context["spec_hash"], container),
        "container": container,
        "command": _command(container, times["pod_deadline"]),
        "stop_command": ["bash", f"{JOB_FILES}/stop"],
        "job_files": JOB_FILES,
        "secrets": SECRETS,
        "variables": [
            {"name": "JOBCTL_ROOT", "value": ROOT},
            {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "environment": environment(spec),
        "distributed": distributed(spec),
        "check": spec.checked,
        "retries": spec.retries,
        "pods": resources.nodes,
        "processes": spec.processes_per_node,
        "port": resources.master_port or PORT,
        "suspend": bool(site.kubernetes.queue),
        **times,
        "ttl": TTL_SECONDS,
        "shm": f"{spec.facts.shm_gib}Gi",
        **placement(spec),
    }


def _command(container: str, deadline: int) -> list[str]:
    """Return the command of a pod. It has a ``deadline`` in seconds if the pod itself can have no limit.

    A TrainJob says no ``activeDeadlineSeconds`` of its pods: the one that Trainer has is of all attempts
    together. So the first process of the container is ``timeout``. It passes SIGTERM on, and nothing in the
    container outlives it.
    """
    script = ["bash", f"{JOB_FILES}/script"]
    if container != TRAINJOB_CONTAINER:
        return script

    # In the foreground, it signals the script alone, which tells its children itself.
    return ["timeout", "--foreground", "--signal=KILL", str(deadline), *script]


def _times(spec: JobSpec) -> dict[str, int]:
    """Return the limits of one attempt, in seconds.

    The training operator looks at a limit of the job only when something else changes
    (kubeflow/trainer#3358). So the script keeps the limit, and the kubelet keeps one of the pod, which also
    counts the start and the end.
    """
    limit = seconds(spec.resources.time_limit)
    return {
        "limit_seconds": limit,
        "kill_seconds": KILL_SECONDS,
        "last_words_seconds": LAST_WORDS_SECONDS,
        "start_seconds": START_SECONDS,
        "dead_node_seconds": DEAD_NODE_SECONDS,
        # Later than every other limit, because the kubelet kills without a word.
        "pod_deadline": limit + START_SECONDS + KILL_SECONDS + LAST_WORDS_SECONDS,
    }


def environment(spec: JobSpec) -> dict[str, str]:
    """Return the variables of the payload. Compiled code is on the volume, and the site's settings win."""
    if spec.resources.gpus_per_node == 0:
        return job_environment(spec)
    return gpu_environment(spec, f"{ROOT}/cache")
