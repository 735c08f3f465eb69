"""The rest of a cluster behind the API server: operators that make pods of jobs, and a kubelet that really runs them.

Operators set the environment as the recorded pods of a real one have it (``data/pods.json``). A container is a process
of this machine: it sees the server's volume folder as its root, and its ConfigMap as files.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from tests.k8s.server import ApiServer
from tests.k8s.store import Object, Refusal, merge, now

OPERATED = (
    ("kubeflow.org/v1", "pytorchjobs"),
    ("trainer.kubeflow.org/v1alpha1", "trainjobs"),
    ("batch/v1", "jobs"),
)


class Cluster:
    """Reconciles until it is closed. ``environment`` is what the node gives to every container."""

    def __init__(self, api: ApiServer, environment: dict[str, str]) -> None:
        self.api, self.environment = api, environment
        self.unschedulable = ""
        """The scheduler's words for why no node fits, where none does."""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._pod_names: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def process(self, pod: str) -> subprocess.Popen[bytes]:
        """The container of the pod of that name."""
        return self._processes[self.api.store.get("v1", "pods", "jobctl", pod)["metadata"]["uid"]]

    def _loop(self) -> None:
        while not self._stop.wait(0.05):
            for version, plural in OPERATED:
                if (version, plural) in self.api.store.served:
                    for job in self.api.store.list_all(version, plural, "jobctl"):
                        with contextlib.suppress(Refusal):  # deleted in this moment
                            self._reconcile(version, plural, job)
            for pod in self.api.store.list_all("v1", "pods", "jobctl"):
                with contextlib.suppress(Refusal):
                    self._run(pod)
            self._end_deleted()

    # ---- operators

    def _reconcile(self, version: str, plural: str, job: Object) -> None:
        spec, name = job["spec"], job["metadata"]["name"]
        if _over(job):
            return
        if spec.get("suspend") or (spec.get("runPolicy") or {}).get("suspend"):
            self._condition(version, plural, name, "Suspended")
            return
        pods = {pod["metadata"]["name"]: pod for pod in self.api.store.list_all("v1", "pods", "jobctl")}
        wanted = _pods_of(plural, job)
        # A name is free again when the pod that had it has ended, which may be long after it was deleted.
        ending = {self._pod_names[uid] for uid, process in self._processes.items() if process.poll() is None}
        for pod in wanted:
            if pod["metadata"]["name"] not in {*pods, *ending}:
                self.api.store.create("v1", "pods", "jobctl", pod)
        mine = [pods[p["metadata"]["name"]] for p in wanted if p["metadata"]["name"] in pods]
        codes = [_exit_code(pod) for pod in mine]
        if plural == "pytorchjobs":
            self._condition(version, plural, name, "Created")
        for pod, code in zip(mine, codes, strict=True):
            if code is not None and code >= 128:
                self.api.store.delete("v1", "pods", "jobctl", pod["metadata"]["name"])
            elif code not in (None, 0):
                self._condition(
                    version, plural, name, "Failed", f"pod {pod['metadata']['name']} failed: exit code {code}"
                )
        # The training operator looks at the master alone, the others at all pods.
        if codes and (
            codes[0] == 0 if plural == "pytorchjobs" else len(codes) == len(wanted) and set(codes) == {0}
        ):
            self._condition(version, plural, name, "Succeeded" if plural == "pytorchjobs" else "Complete")

    def _condition(self, version: str, plural: str, name: str, type_: str, message: str = "") -> None:
        with self.api.store.lock:
            job = self.api.store.get(version, plural, "jobctl", name)
            status = job.setdefault("status", {})
            there = status.setdefault("conditions", [])
            if not any(condition["type"] == type_ for condition in there):
                status.setdefault("startTime", now())
                there.append({"type": type_, "status": "True", "reason": type_, "message": message,
                              "lastTransitionTime": now()})  # fmt: skip
                self.api.store.patch(version, plural, "jobctl", name, {"status": status})

    # ---- the kubelet

    def _run(self, pod: Object) -> None:
        uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
        process = self._processes.get(uid)
        if process is None:
            if self.unschedulable:
                no = {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": self.unschedulable,
                }
                self._status(name, {"phase": "Pending", "conditions": [no]})
                return
            self._start(pod)
        elif (
            (code := process.poll()) is not None and _exit_code(pod) is None and uid not in self.api.open_pods
        ):
            code = code if code >= 0 else 128 - code
            last = "\n".join(line for _, line in self.api.logs[uid][-3:])
            said = {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}
            self._container(
                name, pod, "Succeeded" if code == 0 else "Failed", {"terminated": said | {"message": last}}
            )

    def _start(self, pod: Object) -> None:
        uid, container = pod["metadata"]["uid"], pod["spec"]["containers"][0]
        files = self.api.folder / uid
        files.mkdir()
        for volume in pod["spec"].get("volumes", []):
            if "configMap" in volume:
                record = self.api.store.get("v1", "configmaps", "jobctl", volume["configMap"]["name"])
                for key, text in record["data"].items():
                    (files / key).write_text(text)
        words = [word.replace("/etc/jobctl", str(files)) for word in container["command"]]
        process = subprocess.Popen(
            words,
            env=self._env(pod, container),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._processes[uid], self._pod_names[uid] = process, pod["metadata"]["name"]
        self.api.logs[uid] = []
        self.api.open_pods.add(uid)
        threading.Thread(target=self._copy_log, args=(uid, process), daemon=True).start()
        self._container(pod["metadata"]["name"], pod, "Running", {"running": {"startedAt": now()}})

    def _env(self, pod: Object, container: Object) -> dict[str, str]:
        env = {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(self.api.folder),
            "NODE_NAME": f"node-{pod['metadata']['name']}",
        }
        env |= {
            variable["name"]: variable["value"]
            for variable in container.get("env", [])
            if "value" in variable
        }
        # There is one machine and no DNS, and no mount.
        loopback = {key: "127.0.0.1" for key in ("MASTER_ADDR", "PET_MASTER_ADDR") if key in env}
        return {**env, **loopback, "JOBCTL_ROOT": str(self.api.volume), **self.environment}

    def _copy_log(self, uid: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout
        for line in process.stdout:
            stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
            self.api.logs[uid].append((stamp, line.decode().rstrip("\n")))
        process.wait()
        self.api.open_pods.discard(uid)

    def _container(self, name: str, pod: Object, phase: str, state: Object) -> None:
        container = {"name": pod["spec"]["containers"][0]["name"], "state": state, "restartCount": 0}
        self._status(name, {"phase": phase, "conditions": [], "containerStatuses": [container]})

    def _status(self, name: str, status: Object) -> None:
        self.api.store.patch("v1", "pods", "jobctl", name, {"status": status, "spec": {"nodeName": "node-0"}})

    def _end_deleted(self) -> None:
        """preStop, then SIGTERM, as a pod that was deleted is ended."""
        there = {pod["metadata"]["uid"] for pod in self.api.store.list_all("v1", "pods", "jobctl")}
        for uid, process in list(self._processes.items()):
            if uid not in there and process.poll() is None and not (self.api.folder / uid / "ended").exists():
                (self.api.folder / uid / "ended").touch()
                hook = self.api.folder / uid / "stop"
                if hook.exists():
                    env = {**os.environ, "JOBCTL_ROOT": str(self.api.volume)}
                    ending = subprocess.Popen(["bash", str(hook)], env=env, start_new_session=True)
                    threading.Thread(target=_wait_for_both, args=(process, ending), daemon=True).start()


def _wait_for_both(process: subprocess.Popen[bytes], hook: subprocess.Popen[bytes]) -> None:
    while process.poll() is None and hook.poll() is None:
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(hook.pid, signal.SIGKILL)
    if process.poll() is None:
        process.terminate()


def _over(job: Object) -> bool:
    held = {c["type"] for c in (job.get("status") or {}).get("conditions", []) if c["status"] == "True"}
    return bool(held & {"Succeeded", "Failed", "Complete"})


def _exit_code(pod: Object) -> int | None:
    for container in (pod.get("status") or {}).get("containerStatuses", []):
        if "terminated" in container["state"]:
            return int(container["state"]["terminated"]["exitCode"])
    return None


def _pods_of(plural: str, job: Object) -> list[Object]:
    """The pods that the job's operator makes, with its labels and its environment."""
    return {"pytorchjobs": _pytorch, "trainjobs": _trainjob, "jobs": _job}[plural](job)


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
            pods.append(_pod(job, f"{name}-{role.lower()}-{index}", labels, replicas[role]["template"], env))
    return pods


def _trainjob(job: Object) -> list[Object]:
    name, trainer = job["metadata"]["name"], job["spec"]["trainer"]
    patch = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]
    template = patch["template"]["spec"]["template"]
    container = {
        **template["spec"]["containers"][0],
        "image": trainer["image"],
        "command": trainer["command"],
    }
    container["env"] = trainer["env"]
    template = {**template, "spec": {**template["spec"], "containers": [container]}}
    pods = []
    for rank in range(trainer["numNodes"]):
        env = {
            "PET_NNODES": trainer["numNodes"], "PET_NPROC_PER_NODE": trainer["numProcPerNode"], "PET_NODE_RANK": rank,
            "PET_MASTER_ADDR": f"{name}-node-0-0.{name}", "PET_MASTER_PORT": 29500,
        }  # fmt: skip
        labels = {"batch.kubernetes.io/job-completion-index": str(rank)}
        pods.append(_pod(job, f"{name}-node-0-{rank}", labels, template, env))
    return pods


def _job(job: Object) -> list[Object]:
    return [
        _pod(
            job, f"{job['metadata']['name']}-{index}", {"batch.kubernetes.io/job-completion-index": str(index)},
            job["spec"]["template"], {"JOB_COMPLETION_INDEX": index},
        )
        for index in range(job["spec"]["completions"])
    ]  # fmt: skip


def python_stub(folder: Path, plan: str) -> Path:
    """An interpreter whose trainer is ``plan``, in bash: it knows run_dir, attempt, node and log, the rank's file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "python"
    path.write_text(
        "#!/bin/bash\nnode=0\n"
        "for word; do case $word in --run_dir=*) run_dir=${word#*=} ;; --attempt=*) attempt=${word#*=} ;;"
        " --node_rank=*) node=${word#*=} ;; esac; done\n"
        'log=$run_dir/logs/$attempt/rank-$(printf %05d "$node").log\n'
        f"{plan}\n"
    )
    path.chmod(0o755)
    return path
