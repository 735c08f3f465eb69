"""What operators make of a job: its pods with their labels and environment, and what follows from how those ended.

The environment is that of recorded pods of a real operator (``data/pods.json``), for Trainer v2 that of its source.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.k8s.store import Object, merge

_RECORDED = json.loads((Path(__file__).parent / "data" / "pods.json").read_text())["body"]["items"]
(INIT_CONTAINER,) = _RECORDED[1]["spec"]["initContainers"]
"""What the training operator gives each worker: it waits until the master has an address."""
RETRIED_FROM = 128
"""``restartPolicy: ExitCode``: codes from here on are tried again."""


class Verdict(NamedTuple):
    """What an operator does now: deletes pods, which are then made anew, or says how the job ended."""

    delete: Sequence[str] = ()
    condition: str = ""
    message: str = ""


def pods_of(plural: str, job: Object, runtimes: dict[str, Object]) -> list[Object]:
    """The pods that the job's operator makes."""
    if plural == "trainjobs":
        return _trainjob(job, runtimes[job["spec"]["runtimeRef"]["name"]])
    return {"pytorchjobs": _pytorch, "jobs": _job}[plural](job)


def verdict(plural: str, job: Object, runtimes: dict[str, Object], codes: dict[str, int | None]) -> Verdict:
    """``codes`` are the exit codes of the job's pods, by name and in their order; None of one that runs."""
    if plural == "trainjobs":
        return _verdict_of_jobset(runtimes[job["spec"]["runtimeRef"]["name"]], codes)
    return {"pytorchjobs": _verdict_of_exit_code, "jobs": _verdict_of_job}[plural](job, codes)


def _failed(name: str, code: int) -> Verdict:
    return Verdict(condition="Failed", message=f"pod {name} failed: exit code {code}")


def _verdict_of_exit_code(job: Object, codes: dict[str, int | None]) -> Verdict:
    for name, code in codes.items():
        if code and code < RETRIED_FROM:
            return _failed(name, code)
    if next(iter(codes.values())) == 0:  # the master's alone counts
        return Verdict(condition="Succeeded")
    return Verdict(delete=[name for name, code in codes.items() if code])


def _verdict_of_jobset(runtime: Object, codes: dict[str, int | None]) -> Verdict:
    (rjob,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    (rule,) = rjob["template"]["spec"]["podFailurePolicy"]["rules"]
    for name, code in codes.items():
        if code and code not in rule["onExitCodes"]["values"]:
            return _failed(name, code)
    if any(codes.values()):  # the whole JobSet starts again
        return Verdict(delete=list(codes))
    return Verdict(condition="Complete") if set(codes.values()) == {0} else Verdict()


def _verdict_of_job(job: Object, codes: dict[str, int | None]) -> Verdict:
    rules = job["spec"]["podFailurePolicy"]["rules"]
    final = next(rule["onExitCodes"] for rule in rules if rule["action"] == "FailJob")
    for name, code in codes.items():
        if code and (code in final["values"]) == (final["operator"] == "In"):
            return _failed(name, code)
    if set(codes.values()) == {0}:
        return Verdict(condition="Complete")
    return Verdict(delete=[name for name, code in codes.items() if code])


# ---- pods


def _pod(job: Object, name: str, labels: dict[str, str], template: Object, env: dict[str, Any]) -> Object:
    pod = merge({"metadata": {"name": name, "labels": labels}}, {"metadata": {}, **template})
    pod["metadata"]["labels"] = {**(template["metadata"].get("labels") or {}), **labels}
    pod["metadata"]["ownerReferences"] = [
        {"apiVersion": job["apiVersion"], "kind": job["kind"], "name": job["metadata"]["name"],
         "uid": job["metadata"]["uid"], "controller": True}
    ]  # fmt: skip
    container = dict(pod["spec"]["containers"][0])
    container["env"] = [*container.get("env", []), *({"name": k, "value": str(v)} for k, v in env.items())]
    pod["spec"] = {**pod["spec"], "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", **pod}


def _pytorch(job: Object) -> list[Object]:
    name, replicas = job["metadata"]["name"], job["spec"]["pytorchReplicaSpecs"]
    processes, pods = int(job["spec"]["nprocPerNode"]), []
    total = sum(spec["replicas"] for spec in replicas.values())
    for role in ("Master", "Worker"):
        for index in range(replicas.get(role, {"replicas": 0})["replicas"]):
            rank = len(pods)
            env = {
                "PYTHONUNBUFFERED": 1, "MASTER_PORT": 23456, "PET_MASTER_PORT": 23456,
                "MASTER_ADDR": f"{name}-master-0", "PET_MASTER_ADDR": f"{name}-master-0",
                "WORLD_SIZE": total * processes, "RANK": rank, "PET_NODE_RANK": rank,
                "PET_NPROC_PER_NODE": processes, "PET_NNODES": total,
            }  # fmt: skip
            labels = {
                "training.kubeflow.org/job-name": name,
                "training.kubeflow.org/replica-index": str(index),
                "training.kubeflow.org/replica-type": role.lower(),
            }
            pod = _pod(job, f"{name}-{role.lower()}-{index}", labels, replicas[role]["template"], env)
            if role == "Worker":
                pod["spec"]["initContainers"] = [copy.deepcopy(INIT_CONTAINER)]
            pods.append(pod)
    return pods


def _trainjob(job: Object, runtime: Object) -> list[Object]:
    name, trainer = job["metadata"]["name"], job["spec"]["trainer"]
    (rjob,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    (patch,) = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    template = _patched(rjob["template"]["spec"]["template"], patch["template"]["spec"]["template"])
    template["spec"]["containers"][0] |= {key: trainer[key] for key in ("image", "command", "env")}
    pods = []
    for rank in range(trainer["numNodes"]):
        env = {
            "PET_NNODES": trainer["numNodes"], "PET_NPROC_PER_NODE": trainer["numProcPerNode"], "PET_NODE_RANK": rank,
            "PET_MASTER_ADDR": f"{name}-node-0-0.{name}", "PET_MASTER_PORT": 29400,
        }  # fmt: skip
        labels = {"batch.kubernetes.io/job-completion-index": str(rank)}
        pods.append(_pod(job, f"{name}-node-0-{rank}", labels, template, env))
    return pods


def jobset_of(job: Object, runtime: Object) -> Object:
    """The JobSet that Trainer v2 makes of a TrainJob on its runtime."""
    trainer = job["spec"]["trainer"]
    spec = copy.deepcopy(runtime["spec"]["template"]["spec"])
    (rjob,) = spec["replicatedJobs"]
    (patch,) = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    template = _patched(rjob["template"]["spec"]["template"], patch["template"]["spec"]["template"])
    template["spec"]["containers"][0] |= {key: trainer[key] for key in ("image", "command", "env")}
    template["spec"]["containers"][0]["resources"] = trainer["resourcesPerNode"]
    nodes = {"parallelism": trainer["numNodes"], "completions": trainer["numNodes"]}
    rjob["template"]["spec"] |= {**nodes, "template": template}
    rjob["replicas"] = 1
    metadata = {key: job["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}

    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {**spec, "suspend": job["spec"]["suspend"]},
    }


def podgroup_of(job: Object, runtime: Object | None = None) -> Object | None:
    """The PodGroup by which Volcano starts all pods of a job or none; None where nobody asks for one.

    The training operator makes it of each job where it was set up for Volcano, Trainer v2 where the runtime says so.
    """
    if job["kind"] == "TrainJob":
        assert runtime is not None
        if "volcano" not in runtime["spec"].get("podGroupPolicy", {}):
            return None

        members = job["spec"]["trainer"]["numNodes"]
        requests = job["spec"]["trainer"]["resourcesPerNode"]["requests"]
        wanted: Object = dict(runtime["spec"]["podGroupPolicy"]["volcano"])
    else:
        wanted = dict(job["spec"]["runPolicy"]["schedulingPolicy"])
        members = wanted.pop("minAvailable")
        pod = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
        requests = pod["containers"][0]["resources"]["requests"]

    names = {"queue": "queue", "priorityClass": "priorityClassName", "networkTopology": "networkTopology"}
    spec = {names[key]: value for key, value in wanted.items() if key in names}

    return {
        "apiVersion": "scheduling.volcano.sh/v1beta1",
        "kind": "PodGroup",
        "metadata": {"name": job["metadata"]["name"], "namespace": job["metadata"]["namespace"]},
        "spec": {**spec, "minMember": members, "minResources": requests},
    }


def _patched(template: Object, patch: Object) -> Object:
    """A strategic merge: containers by their names, the rest by its keys."""
    (container,), (change,) = template["spec"]["containers"], patch["spec"]["containers"]
    merged = merge({"metadata": {}, **copy.deepcopy(template)}, copy.deepcopy(patch))
    merged["spec"]["containers"] = [merge(copy.deepcopy(container), copy.deepcopy(change))]
    return merged


def _job(job: Object) -> list[Object]:
    return [
        _pod(
            job, f"{job['metadata']['name']}-{index}", {"batch.kubernetes.io/job-completion-index": str(index)},
            job["spec"]["template"], {"JOB_COMPLETION_INDEX": index},
        )
        for index in range(job["spec"]["completions"])
    ]  # fmt: skip
