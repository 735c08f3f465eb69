"""The kinds of objects that we make or read, and their paths on the API server."""

from __future__ import annotations

from typing import Any, NamedTuple

Object = dict[str, Any]
"""An object of the API as JSON. The client's own types change from 36 to 37, so nothing uses them."""


class Kind(NamedTuple):
    """One kind of object."""

    api_version: str
    name: str
    plural: str
    operator: str = ""
    """The software that serves it, if Kubernetes itself does not."""
    namespaced: bool = True
    """Whether it belongs to a namespace. Otherwise it belongs to the cluster, and a call has an empty namespace."""

    @property
    def group_path(self) -> str:
        return f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"

    def path(self, namespace: str, name: str = "") -> str:
        place = f"/namespaces/{namespace}" if self.namespaced else ""
        return f"{self.group_path}{place}/{self.plural}" + (f"/{name}" if name else "")


CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
POD = Kind("v1", "Pod", "pods")
ALL_PODS = Kind("v1", "Pod", "pods", namespaced=False)
"""The pods of all namespaces, to be listed."""
DEPLOYMENTS = Kind("apps/v1", "Deployment", "deployments", namespaced=False)
"""The Deployments of all namespaces, to be listed: each operator is one of them."""
NODE = Kind("v1", "Node", "nodes", namespaced=False)
NAMESPACE = Kind("v1", "Namespace", "namespaces", namespaced=False)
CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
SECRET = Kind("v1", "Secret", "secrets")
EVENT = Kind("v1", "Event", "events")
JOB = Kind("batch/v1", "Job", "jobs")
PYTORCHJOB = Kind("kubeflow.org/v1", "PyTorchJob", "pytorchjobs", "Kubeflow's training operator")
TRAINJOB = Kind("trainer.kubeflow.org/v1alpha1", "TrainJob", "trainjobs", "Kubeflow Trainer v2")

LOCAL_QUEUE = Kind("kueue.x-k8s.io/v1beta2", "LocalQueue", "localqueues", "Kueue")
RUNTIME = Kind(
    "trainer.kubeflow.org/v1alpha1",
    "ClusterTrainingRuntime",
    "clustertrainingruntimes",
    "Kubeflow Trainer v2",
    namespaced=False,
)
WORKLOAD = Kind("kueue.x-k8s.io/v1beta2", "Workload", "workloads", "Kueue")
LOCAL_QUEUE_V1BETA1 = LOCAL_QUEUE._replace(api_version="kueue.x-k8s.io/v1beta1")
WORKLOAD_V1BETA1 = WORKLOAD._replace(api_version="kueue.x-k8s.io/v1beta1")
"""Kueue before 0.15 serves v1beta1 alone."""

KINDS = (CONFIG_MAP, POD, EVENT, JOB, PYTORCHJOB, TRAINJOB)


def kind_of(thing: Object) -> Kind:
    return next(k for k in KINDS if (k.api_version, k.name) == (thing["apiVersion"], thing["kind"]))


def label_selector(labels: dict[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())
