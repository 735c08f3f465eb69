"""The rest of a cluster behind the API server: operators that make pods of jobs, and a kubelet that really runs them.

A container is a process of this machine: it sees the server's volume folder as its root, and its ConfigMap as files.
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

from tests.k8s import operators
from tests.k8s.refusal import Refusal
from tests.k8s.server import ApiServer
from tests.k8s.store import Object, now

OPERATED = (
    ("kubeflow.org/v1", "pytorchjobs"),
    ("trainer.kubeflow.org/v1alpha1", "trainjobs"),
    ("batch/v1", "jobs"),
)


class Cluster:
    """Reconciles until it is closed. ``environment`` is what the node gives to every container."""

    def __init__(self, api: ApiServer, environment: dict[str, str]) -> None:
        self.api, self.environment = api, environment
        self.unschedulable: dict[str, str] = {}
        """By pod: the scheduler's words for why no node fits."""
        self.restarts_in_place = True
        """Whether containers are started again in their pods where they say so, as from Kubernetes 1.35 on."""
        self.images_missing = False
        """Whether no image can be pulled."""
        self.dead: set[str] = set()
        """Names of pods whose node is dead: their state stays as it was, and nobody ends them."""
        self._ending: set[str] = set()
        self._grace: dict[str, float] = {}
        self._started: dict[str, float] = {}
        self._restarts: dict[str, int] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._pods: dict[str, Object] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for process in self._processes.values():
            _kill(process)

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
            self._kill_removed()

    # ---- operators

    def _reconcile(self, version: str, plural: str, job: Object) -> None:
        spec, name = job["spec"], job["metadata"]["name"]
        if _over(job) or job["metadata"].get("deletionTimestamp"):
            return
        pods = {pod["metadata"]["name"]: pod for pod in self.api.store.list_all("v1", "pods", "jobctl")}
        if spec.get("suspend") or (spec.get("runPolicy") or {}).get("suspend"):
            # Kueue takes back what it has admitted: the pods are deleted, and their hooks run.
            for pod in pods.values():
                owners = [owner["uid"] for owner in pod["metadata"].get("ownerReferences") or []]
                if job["metadata"]["uid"] in owners and not pod["metadata"].get("deletionTimestamp"):
                    self.api.store.delete("v1", "pods", "jobctl", pod["metadata"]["name"])
            self._condition(version, plural, name, "Suspended")
            return
        self._condition(version, plural, name, "Suspended", holds=False)
        wanted = operators.pods_of(plural, job, self.api.store.runtimes)
        # A name is free again when the pod that had it is gone, which may be long after it was deleted.
        for pod in wanted:
            if pod["metadata"]["name"] not in pods:
                self._create(job, pod)
        if plural == "pytorchjobs":
            self._condition(version, plural, name, "Created")
        mine = [pods[p["metadata"]["name"]] for p in wanted if p["metadata"]["name"] in pods]
        if len(mine) < len(wanted):
            return
        codes = {pod["metadata"]["name"]: _exit_code(pod) for pod in mine}
        delete, condition, message = operators.verdict(plural, job, self.api.store.runtimes, codes)
        if condition:
            self._condition(version, plural, name, condition, message)
            delete = [pod for pod, code in codes.items() if code is None]
        for pod in delete:
            self.api.store.delete("v1", "pods", "jobctl", pod)

    def _create(self, job: Object, pod: Object) -> None:
        """What the server refuses, the operator says in an event of the job, and tries again."""
        try:
            self.api.store.create("v1", "pods", "jobctl", pod)
        except Refusal as refusal:
            words = f"Error creating: {refusal}"
            self.warn(job["kind"], job["metadata"]["name"], "FailedCreatePod", words)

    def warn(self, kind: str, name: str, reason: str, message: str) -> None:
        """An event of type Warning; a second one like it changes nothing but the count."""
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "type": "Warning",
            "reason": reason,
            "message": message,
            "metadata": {"name": f"{name}.{reason}", "namespace": "jobctl", "uid": f"{name}.{reason}"},
            "involvedObject": {"kind": kind, "name": name},
            "lastTimestamp": now(),
        }
        with self.api.store.lock:
            self.api.store.objects["v1", "events", "jobctl", event["metadata"]["name"]] = event

    def _condition(
        self, version: str, plural: str, name: str, type_: str, message: str = "", *, holds: bool = True
    ) -> None:
        """Say that a condition holds; or no longer, of one that has held."""
        with self.api.store.lock:
            job = self.api.store.get(version, plural, "jobctl", name)
            status = job.setdefault("status", {})
            there = status.setdefault("conditions", [])
            known = next((condition for condition in there if condition["type"] == type_), None)
            word = str(holds)
            if (known is None and not holds) or (known is not None and known["status"] == word):
                return
            if known is None:
                status.setdefault("startTime", now())
                known = {"type": type_, "reason": type_, "message": message}
                there.append(known)
            known |= {"status": word, "lastTransitionTime": now()}
            self.api.store.patch(version, plural, "jobctl", name, {"status": status})

    # ---- the kubelet

    def _run(self, pod: Object) -> None:
        uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
        process = self._processes.get(uid)
        if name in self.dead:
            return
        if pod["metadata"].get("deletionTimestamp"):
            self._end_deleted(pod)
            return
        if process is None:
            if why := self.unschedulable.get(name):
                no = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}
                self.api.store.patch(
                    "v1", "pods", "jobctl", name, {"status": {"phase": "Pending", "conditions": [no]}}
                )
                return
            if self._cannot_mount(pod):
                return
            if self.images_missing:
                words = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
                self._container(name, pod, "Pending", {"waiting": words})
                return
            self._start(pod)
        elif (
            (code := process.poll()) is not None and _exit_code(pod) is None and uid not in self.api.open_pods
        ):
            code = code if code >= 0 else 128 - code
            state = self._terminated(uid, code)
            if self._starts_in_place(pod, code):
                self._start(pod, before=state)
            else:
                self._container(name, pod, "Succeeded" if code == 0 else "Failed", state)
        elif process.poll() is None:
            self._keep_deadline(pod)

    def _starts_in_place(self, pod: Object, code: int) -> bool:
        rules = pod["spec"]["containers"][0].get("restartPolicyRules") or []
        wanted = any(code in rule["exitCodes"]["values"] for rule in rules)
        return self.restarts_in_place and wanted and pod["metadata"]["uid"] not in self._ending

    def _cannot_mount(self, pod: Object) -> bool:
        """Whether a claim or a Secret of the pod is not there, which the scheduler or an event of the pod then says."""
        name = pod["metadata"]["name"]
        for volume in pod["spec"].get("volumes", []):
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if claim and not self._is_there("persistentvolumeclaims", claim):
                words = f'0/3 nodes are available: persistentvolumeclaim "{claim}" not found.'
                no = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
                self.api.store.patch(
                    "v1", "pods", "jobctl", name, {"status": {"phase": "Pending", "conditions": [no]}}
                )
                return True
            secret = (volume.get("secret") or {}).get("secretName")
            if secret and not self._is_there("secrets", secret):
                words = (
                    f'MountVolume.SetUp failed for volume "{volume["name"]}" : secret "{secret}" not found'
                )
                self.warn("Pod", name, "FailedMount", words)
                self._container(name, pod, "Pending", {"waiting": {"reason": "ContainerCreating"}})
                return True
        return False

    def _is_there(self, plural: str, name: str) -> bool:
        with contextlib.suppress(Refusal):
            return bool(self.api.store.get("v1", plural, "jobctl", name))
        return False

    def _terminated(self, uid: str, code: int) -> Object:
        """The file for the last words is shown; where it is empty and the container failed, the end of its log."""
        file = self.api.folder / uid / "termination-log"
        message = file.read_text()[:4096] if file.exists() else ""
        if not message and code:
            message = "\n".join(line for _, line in self.api.logs[uid][-3:])
        reason = "Completed" if code == 0 else "Error"
        return {"terminated": {"exitCode": code, "reason": reason, "message": message}}

    def _keep_deadline(self, pod: Object) -> None:
        """A pod that is active for longer than it may is ended, as a kubelet does it."""
        limit = pod["spec"].get("activeDeadlineSeconds")
        uid = pod["metadata"]["uid"]
        if limit and time.monotonic() - self._started[uid] > limit and uid not in self._ending:
            self._ending.add(uid)
            self._grace[uid] = 1
            threading.Thread(target=self._end, args=(uid, self._processes[uid]), daemon=True).start()

    def _start(self, pod: Object, before: Object | None = None) -> None:
        """Start the container; ``before`` is how it ended, where it is started again in its pod."""
        uid, container = pod["metadata"]["uid"], pod["spec"]["containers"][0]
        files = self.api.folder / uid
        (files / "tmp").mkdir(parents=True, exist_ok=True)
        for volume in pod["spec"].get("volumes", []):
            if "configMap" in volume:
                record = self.api.store.get("v1", "configmaps", "jobctl", volume["configMap"]["name"])
                for key, text in record["data"].items():
                    text = text.replace("/dev/termination-log", f"{files}/termination-log")
                    text = text.replace("use_code_in /workspace", f"use_code_in {self.api.volume}")
                    (files / key).write_text(text)
        (files / "termination-log").write_text("")
        words = [word.replace("/etc/jobctl", str(files)) for word in container["command"]]
        process = subprocess.Popen(
            words,
            env=self._env(pod, container),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._processes[uid], self._pods[uid] = process, pod
        self._started[uid] = time.monotonic()
        self.api.logs[uid] = []
        self.api.open_pods.add(uid)
        threading.Thread(target=self._copy_log, args=(uid, process), daemon=True).start()
        self._restarts[uid] = 0 if before is None else self._restarts[uid] + 1
        running = {"running": {"startedAt": now()}}
        self._container(pod["metadata"]["name"], pod, "Running", running, before)

    def _env(self, pod: Object, container: Object) -> dict[str, str]:
        env = {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(self.api.folder / pod["metadata"]["uid"] / "tmp"),
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
        ended = threading.Thread(target=self._end_with_the_first, args=(process,), daemon=True)
        ended.start()
        for line in process.stdout:
            stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
            self.api.logs[uid].append((stamp, line.decode(errors="replace").rstrip("\n")))
        self.api.open_pods.discard(uid)

    def _end_with_the_first(self, process: subprocess.Popen[bytes]) -> None:
        """What runs in a container ends with its first process."""
        process.wait()
        _kill(process)

    def _container(
        self, name: str, pod: Object, phase: str, state: Object, before: Object | None = None
    ) -> None:
        restarts = self._restarts.get(pod["metadata"]["uid"], 0)
        container = {
            "name": pod["spec"]["containers"][0]["name"],
            "state": state,
            "lastState": before or {},
            "restartCount": restarts,
        }
        self._status(name, {"phase": phase, "conditions": [], "containerStatuses": [container]})

    def _status(self, name: str, status: Object) -> None:
        self.api.store.patch("v1", "pods", "jobctl", name, {"status": status, "spec": {"nodeName": "node-0"}})

    def _end_deleted(self, pod: Object) -> None:
        """preStop, then SIGTERM, then SIGKILL; when the container has ended the pod is taken away."""
        uid = pod["metadata"]["uid"]
        process = self._processes.get(uid)
        if process is None or (process.poll() is not None and uid not in self.api.open_pods):
            self.api.store.remove("v1", "pods", "jobctl", pod["metadata"]["name"])
            return
        # A later deletion may leave the pod less time.
        self._grace[uid] = pod["metadata"]["deletionGracePeriodSeconds"]
        if uid not in self._ending:
            self._ending.add(uid)
            threading.Thread(target=self._end, args=(uid, process), daemon=True).start()

    def _kill_removed(self) -> None:
        """What runs for a pod that was removed by force."""
        there = {pod["metadata"]["uid"] for pod in self.api.store.list_all("v1", "pods", "jobctl")}
        for uid, process in list(self._processes.items()):
            if uid not in there and process.poll() is None and uid not in self._ending:
                self._ending.add(uid)
                _kill(process)

    def _end(self, uid: str, process: subprocess.Popen[bytes]) -> None:
        pod = self._pods[uid]
        began = time.monotonic()

        def in_time() -> bool:
            return process.poll() is None and time.monotonic() < began + self._grace[uid]

        container, files = pod["spec"]["containers"][0], self.api.folder / uid
        hook = ((container.get("lifecycle") or {}).get("preStop") or {}).get("exec", {}).get("command")
        if hook:
            words = [word.replace("/etc/jobctl", str(files)) for word in hook]
            ending = subprocess.Popen(words, env=self._env(pod, container), start_new_session=True)
            while in_time() and ending.poll() is None:
                time.sleep(0.02)
            _kill(ending)
            ending.wait()
        if process.poll() is None:
            process.terminate()
        terminated = time.monotonic()
        while in_time() or (process.poll() is None and time.monotonic() < terminated + 2.0):
            time.sleep(0.02)
        _kill(process)

    def kill_node_of(self, pod: str) -> None:
        """The node of that pod dies: nothing runs there, and nobody says so."""
        process = self.process(pod)
        self.dead.add(pod)
        _kill(process)
        process.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _over(job: Object) -> bool:
    held = {c["type"] for c in (job.get("status") or {}).get("conditions", []) if c["status"] == "True"}
    return bool(held & {"Succeeded", "Failed", "Complete"})


def _exit_code(pod: Object) -> int | None:
    for container in (pod.get("status") or {}).get("containerStatuses", []):
        if "terminated" in container["state"]:
            return int(container["state"]["terminated"]["exitCode"])
    return None


def python_stub(folder: Path, plan: str) -> Path:
    """An interpreter whose trainer is ``plan``, in bash; it knows run_dir, attempt, node, root and log, the rank's."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "python"
    path.write_text(
        "#!/bin/bash\nnode=0\n"
        "for word; do case $word in --run_dir=*) run_dir=${word#*=} ;; --attempt=*) attempt=${word#*=} ;;"
        " --root=*) root=${word#*=} ;; --node_rank=*) node=${word#*=} ;; esac; done\n"
        'log=$run_dir/logs/$attempt/rank-$(printf %05d "$node").log\n'
        f"{plan}\n"
    )
    path.chmod(0o755)
    return path
