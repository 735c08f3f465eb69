"""Facts about a node type, and the expectations of a job that follow from them."""

from typing import Annotated

import msgspec
from msgspec import Meta

from jobctl.jobs.catalog.schema.naming import ImageVariant
from jobctl.jobs.core.bounds import LARGEST, MOST


class HardwareFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Facts about a node type. They are no choices."""

    device: Annotated[str, Meta(description="part of the name that the driver gives the GPU; empty: no GPU")]
    memory_gib: Annotated[
        float, Meta(gt=0, le=LARGEST, description="memory of one GPU, or of the node without GPUs")
    ]
    peak_tflops: Annotated[dict[str, float], Meta(description="dense peaks by dtype, TFLOP/s a GPU")]
    compute_capability: Annotated[str, Meta(description="CUDA architecture, as 9.0; empty without GPU")]
    image_variants: Annotated[
        list[ImageVariant],
        Meta(description="images with code for this GPU; empty: none, because its processors are ARM"),
    ]
    cpus: Annotated[int, Meta(ge=1, le=MOST, description="CPU cores of a node")]
    node_memory_gib: Annotated[int, Meta(ge=1, le=MOST, description="memory of a node")]
    shm_gib: Annotated[int, Meta(ge=1, le=MOST, description="size of /dev/shm in a container")]
    gpu_product: Annotated[str, Meta(description="nvidia.com/gpu.product label")] = ""
    allreduce_gb_s: Annotated[
        float,
        Meta(
            ge=0,
            le=LARGEST,
            description="bus bandwidth an all-reduce within a node should reach, GB/s; 0: unknown",
        ),
    ] = 0.0
    allreduce_network_gb_s: Annotated[
        float,
        Meta(
            ge=0,
            le=LARGEST,
            description="bus bandwidth an all-reduce between two nodes should reach, GB/s; 0: unknown",
        ),
    ] = 0.0


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the preflight expects of each node of a job."""

    gpus: int
    device: str = ""
    compute_capability: str = ""
    peak_tflops: float = 0.0
    """Dense peak of one GPU in bfloat16; 0: unknown."""
    allreduce_gb_s: float = 0.0
    allreduce_network_gb_s: float = 0.0
