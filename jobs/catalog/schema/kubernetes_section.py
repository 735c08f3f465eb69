"""The section ``kubernetes`` of a site: settings that only the targets on Kubernetes read."""

from typing import Annotated

import msgspec
from msgspec import Meta


class KubernetesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of a Kubernetes cluster."""

    context: Annotated[str, Meta(description="kubeconfig context")] = ""
    namespace: Annotated[str, Meta(description="Kubernetes namespace")] = "jobctl"
    queue: Annotated[str, Meta(description="Kueue LocalQueue; empty: no queue")] = ""
    pvc: Annotated[str, Meta(description="PersistentVolumeClaim that holds $JOBCTL_ROOT")] = (
        "jobctl-workspace"
    )
    pull_secret: Annotated[str, Meta(description="name of the image pull secret")] = ""
    secret: Annotated[str, Meta(description="name of the Secret whose keys become the job's environment")] = (
        ""
    )
    run_as_user: Annotated[
        int, Meta(ge=1, description="user and group id of the pods, which must be able to write the volume")
    ] = 1000
    gpu_resource: Annotated[str, Meta(description="Kubernetes' resource name of a GPU")] = "nvidia.com/gpu"
    rdma_resource: Annotated[str, Meta(description="Kubernetes' resource name of RDMA; empty: none")] = ""
    node_selector: Annotated[dict[str, str], Meta(description="labels a node must have")] = {}
    tolerations: Annotated[tuple[str, ...], Meta(description="taint keys the pods tolerate")] = (
        "nvidia.com/gpu",
    )
