"""Spec to manifest: a ConfigMap with what the pods run, and the object that an operator makes the pods of."""

from __future__ import annotations

import re
from typing import Any

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
from jobctl.k8s import names

ROOT = registry.VOLUME
"""$JOBCTL_ROOT in every pod: where the claim is mounted."""
JOB_FILES = "/etc/jobctl"
SECRETS = "/run/secrets/jobctl"
PORT = 23456
TTL_SECONDS = 7 * 24 * 3600
"""How long a finished job and the logs of its pods stay."""
LAST_WORDS_SECONDS = 60
"""How long a pod that failed waits for the others to say how they ended."""
CPUS_PER_PROCESS = 4
GIB_PER_PROCESS = 16
"""What a pod is promised: a trainer process and its DataLoader workers; never more than 3/4 of a node."""

_UNPRINTABLE = re.compile(r"[^\t\n -~]")


def render(spec: JobSpec, template: str, container: str, pod_template: str) -> str:
    """The manifest of ``spec`` by ``template``; its pods are written by ``pod_template``.

    Raises UserError for what a site says that Kubernetes has no counterpart of.
    """
    context = _context(spec, container)
    context["run_json"] = literal_block(f"{context['record']}\n", 4)
    context["script"] = literal_block(render_template("kubernetes/script.sh.j2", context), 4)
    context["stop"] = literal_block(render_template("kubernetes/stop.sh.j2", context), 4)
    pods = render_template(f"kubernetes/{pod_template}", context)
    if not distributed(spec):
        template = "job.yaml.j2"

    # jinja2 keeps the column of an expression for its first line only.
    columns = {"pytorchjob.yaml.j2": 8, "trainjob.yaml.j2": 22, "job.yaml.j2": 4}
    context["pod_template"] = Verbatim(indented(pods.rstrip("\n"), columns[template]))

    return render_template(f"kubernetes/{template}", context)


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


def _metadata(spec: JobSpec, run: str, spec_hash: str) -> dict[str, Any]:
    """Return names, labels and annotations of the objects."""
    labels = names.labels(spec, run)
    queue = {names.QUEUE_LABEL: spec.site.kubernetes.queue} if spec.site.kubernetes.queue else {}
    no_proxy = {"sidecar.istio.io/inject": "false"}
    return {
        "version": Verbatim(spec.version),
        "job": names.job_name(spec),
        "labels": labels,
        "job_labels": labels | queue,
        "annotations": {names.RUN_ANNOTATION: run, names.HASH_ANNOTATION: spec_hash},
        "pod_labels": labels | no_proxy,
        "pod_annotations": {names.RUN_ANNOTATION: run} | no_proxy,
        "selector": names.selector(run),
    }


def _context(spec: JobSpec, container: str) -> dict[str, Any]:
    assert spec.run is not None
    site = spec.site
    resources = spec.resources
    if site.pass_env and not site.kubernetes.secret:
        raise UserError(
            f"pass_env {', '.join(site.pass_env)}: Kubernetes takes secrets by reference only",
            hint="kubectl create secret generic NAME --from-literal=…, and --set kubernetes.secret=NAME",
        )

    context = payload_context(spec)

    return context | {
        # Whoever writes the volume is a pod of this namespace, and many volumes show one owner and mode for all.
        "trusted": (EVERYONE,),
        **_metadata(spec, spec.run, context["spec_hash"]),
        "container": container,
        "command": ["bash", f"{JOB_FILES}/script"],
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
        "deadline": seconds(resources.time_limit),
        "ttl": TTL_SECONDS,
        "last_words_seconds": LAST_WORDS_SECONDS,
        "shm": f"{spec.facts.shm_gib}Gi",
        **_placement(spec),
    }


def _placement(spec: JobSpec) -> dict[str, Any]:
    """Return the nodes that the pods may be on, and what they take of them."""
    return {
        "tolerations": spec.site.kubernetes.tolerations if spec.resources.gpus_per_node else (),
        "node_rules": _node_rules(spec),
        "requests": _requests(spec),
        "limits": _devices(spec),
        "rdma": _needs_rdma(spec),
    }


def environment(spec: JobSpec) -> dict[str, str]:
    """Of the payload. What a pod compiles is kept on the volume: its own disk goes with it. The site's settings win."""
    if spec.resources.gpus_per_node == 0:
        return job_environment(spec)
    return gpu_environment(spec, lambda name: f"{ROOT}/cache/{name}")


def distributed(spec: JobSpec) -> bool:
    """Whether the pods work as ranks of one program, and so are an operator's; else each is a worker for itself."""
    return spec.job_kind.distributed


def _needs_rdma(spec: JobSpec) -> bool:
    return bool(spec.site.kubernetes.rdma_resource) and distributed(spec) and spec.resources.nodes > 1


def _devices(spec: JobSpec) -> dict[str, str | int]:
    """GPUs and RDMA devices, which are limited and requested alike."""
    devices: dict[str, str | int] = {}
    if spec.resources.gpus_per_node:
        devices[spec.site.kubernetes.gpu_resource] = spec.resources.gpus_per_node

    if _needs_rdma(spec):
        devices[spec.site.kubernetes.rdma_resource] = max(1, spec.resources.gpus_per_node)

    return devices


def _requests(spec: JobSpec) -> dict[str, str | int]:
    wanted = spec.processes_per_node if distributed(spec) else 1
    facts = spec.facts
    cpus = spec.site.cpus_per_task or min(wanted * CPUS_PER_PROCESS, max(1, facts.cpus * 3 // 4))
    memory = min(wanted * GIB_PER_PROCESS, facts.node_memory_gib * 3 // 4)
    return {"cpu": cpus, "memory": f"{memory}Gi", **_devices(spec)}


def _node_rules(spec: JobSpec) -> list[tuple[str, str, list[str]]]:
    """Key, operator and values of what a node must be: the right GPU, and wanted or not avoided."""
    rules = []
    if spec.resources.gpus_per_node and spec.facts.gpu_product:
        rules.append(("nvidia.com/gpu.product", "In", [spec.facts.gpu_product]))

    for key, operator in (("nodelist", "In"), ("exclude", "NotIn")):
        value = getattr(spec.site, key)
        if "[" in value:
            raise UserError(
                f"{key} {value}: Kubernetes has no ranges of nodes", hint="name them, joined by commas"
            )

        if value:
            rules.append(("kubernetes.io/hostname", operator, [name.strip() for name in value.split(",")]))

    return rules
