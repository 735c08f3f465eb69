"""The section ``kubernetes`` of a site: settings that only the targets on Kubernetes read."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from jobctl.jobs.core.bounds import MOST

QUANTITY = r"^([0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?)?$"
"""A quantity of Kubernetes, or nothing."""
# 253 characters at most: the length of a DNS subdomain.
NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
"""The name of an object of Kubernetes."""
NO_NAME = rf"^$|{NAME}"
"""The name of an object of Kubernetes, or nothing."""


class KubernetesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of a Kubernetes cluster."""

    context: Annotated[str, Meta(description="kubeconfig context")] = ""
    namespace: Annotated[
        str, Meta(pattern=NAME, description="a name of small letters, digits and -: the Kubernetes namespace")
    ] = "jobctl"
    queue: Annotated[
        str,
        Meta(
            pattern=NO_NAME,
            description="a name of small letters, digits and -: Kueue's LocalQueue; empty: no queue",
        ),
    ] = ""
    pvc: Annotated[
        str,
        Meta(
            pattern=NAME,
            description="a name of small letters, digits and -: the PersistentVolumeClaim that holds $JOBCTL_ROOT",
        ),
    ] = "jobctl-workspace"
    pull_secret: Annotated[
        str,
        Meta(
            pattern=NO_NAME,
            description="a name of small letters, digits and -: the image pull secret; empty: none",
        ),
    ] = ""
    secret: Annotated[
        str,
        Meta(
            pattern=NO_NAME,
            description="a name of small letters, digits and -: the Secret whose keys become the environment of a job",
        ),
    ] = ""
    # The default is the user of our images.
    run_as_user: Annotated[
        int,
        Meta(
            ge=1,
            le=2**31 - 1,
            description="user and group id of the pods, which must be able to write the volume",
        ),
    ] = 1000
    memory: Annotated[
        str,
        Meta(
            pattern=QUANTITY,
            description="memory reserved for a pod (request), as 64Gi or 500G; empty: 16Gi a process",
        ),
    ] = ""
    cpu_limit: Annotated[
        int,
        Meta(
            ge=0, le=MOST, description="CPUs that a pod may use (limit); 0: all CPUs of the hardware's node"
        ),
    ] = 0
    memory_limit: Annotated[
        str,
        Meta(
            pattern=QUANTITY,
            description="memory that a pod may use (limit), as 64Gi or 500G; empty: 9/10 of the hardware's node",
        ),
    ] = ""
    gpu_product_label: Annotated[
        str, Meta(description="node label that names the GPU; empty: do not choose nodes by label")
    ] = "nvidia.com/gpu.product"
    gpu_product: Annotated[
        str,
        Meta(
            description="value of that label, for MIG and time-slicing; empty: the product of the hardware entry"
        ),
    ] = ""
    gpu_resource: Annotated[str, Meta(description="Kubernetes' resource name of a GPU")] = "nvidia.com/gpu"
    rdma_resource: Annotated[str, Meta(description="Kubernetes' resource name of RDMA; empty: none")] = ""
    rdma_devices: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST,
            description="RDMA devices of a pod, for example 4 for the EFA of a p4d; 0: one a GPU",
        ),
    ] = 0
    topology_required: Annotated[
        str, Meta(description="topology level that all pods must share, for Kueue; empty: none")
    ] = ""
    topology_preferred: Annotated[
        str, Meta(description="topology level that the pods should share, for Kueue; empty: none")
    ] = ""
    node_selector: Annotated[dict[str, str], Meta(description="labels a node must have")] = {}
    tolerations: Annotated[tuple[str, ...], Meta(description="taint keys the pods tolerate")] = (
        "nvidia.com/gpu",
    )
    pod: Annotated[
        dict[str, Any],
        Meta(description="additional metadata and spec of the pods, added to jobctl's by a strategic merge"),
    ] = {}
