"""A cluster in a folder: API server, operators and kubelet, and a home of the user who talks to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

import jobctl
import jobctl.k8s.api
import jobctl.k8s.cluster
import jobctl.k8s.connection
import jobctl.k8s.logs
import jobctl.k8s.submission
import jobctl.k8s.target
import jobctl.k8s.volume
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.k8s.target import KubernetesTarget
from tests.k8s.cluster import Cluster, python_stub
from tests.k8s.server import ApiServer

MANIFESTS = Path(jobctl.k8s.api.__file__).parent / "manifests"
MakeCluster = Callable[[str], Cluster]


def granted(kind: str = "Role") -> set[tuple[str, str, str]]:
    """Group, resource and verb of all that the shipped roles of a kind allow."""
    roles = [
        thing
        for file in ("rbac.yaml", "kueue/rbac.yaml")
        for thing in yaml.safe_load_all((MANIFESTS / file).read_text())
        if thing["kind"] == kind
    ]
    return {
        (group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


FURNITURE = ("persistentvolumeclaims", "namespaces", "secrets", "nodes", "localqueues")


def furnish(api: ApiServer) -> None:
    """Make what an administrator has made before anybody submits."""
    claim = yaml.safe_load((MANIFESTS / "volume.yaml").read_text())
    api.store.create("v1", "persistentvolumeclaims", "jobctl", claim)
    namespace = yaml.safe_load((MANIFESTS / "namespace.yaml").read_text())
    api.store.create("v1", "namespaces", "", namespace)
    queue = yaml.safe_load((MANIFESTS / "kueue" / "localqueue.yaml").read_text())
    api.store.create("kueue.x-k8s.io/v1beta2", "localqueues", "jobctl", queue)
    for secret in ("jobctl-tokens", "registry"):
        thing = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}}
        api.store.create("v1", "secrets", "jobctl", thing)


def made(api: ApiServer) -> list[str]:
    """The kinds of the objects that users have made, in order."""
    return sorted(key[1] for key in api.store.objects if key[1] not in FURNITURE)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """An API server, reached by $KUBECONFIG as by a user with a home of their own; nothing waits for long."""
    api = ApiServer(tmp_path / "cluster")
    runtime = yaml.safe_load((MANIFESTS / "trainer-v2" / "runtime.yaml").read_text())
    api.store.runtimes = {runtime["metadata"]["name"]: runtime}
    api.rights = granted()
    api.cluster_rights = granted("ClusterRole")
    furnish(api)
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig()))
    monkeypatch.setenv("JOBCTL_ROOT", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobctl.k8s.connection, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(jobctl.k8s.connection, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(jobctl.k8s.connection, "PATIENCE", 3.0)
    monkeypatch.setattr(jobctl.k8s.cluster, "ANSWER_SECONDS", 0.0)
    for module in (jobctl.k8s.logs, jobctl.k8s.volume, jobctl.k8s.submission):
        monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    for target in (jobctl.k8s.target.PYTORCH, jobctl.k8s.target.TRAIN):
        target.clusters.forget()
    yield api
    api.close()


@pytest.fixture
def cluster(server: ApiServer, tmp_path: Path) -> Iterator[MakeCluster]:
    """Starts operators and a kubelet on which the trainer is a few lines of bash."""
    started: list[Cluster] = []

    def start(plan: str) -> Cluster:
        stub = python_stub(tmp_path / "bin", plan)
        started.append(Cluster(server, {"JOBCTL_PYTHON": str(stub)}))
        return started[-1]

    yield start
    for each in started:
        each.close()


def spec_of(run: str | None = "demo", target: str = "k8s", nodes: int = 1, **more: object) -> JobSpec:
    """A smoke training of one process a pod."""
    choices = {"model": "qwen3_smoke", "target": target, "run": run, "stage": "smoke"} | more
    named = {"nodes": nodes, "processes_per_node": 1} | dict(choices.pop("named", {}))  # type: ignore[call-overload]
    return resolve(Choices(**choices, named=named), version=jobctl.__version__).spec


def apply(target: KubernetesTarget, spec: JobSpec) -> bool:
    """Make the objects of ``spec``; whether they were not there yet."""
    return target.store(spec.site, Path("/no/home")).apply(spec)[2]
