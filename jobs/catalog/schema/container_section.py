"""The section ``container`` of a site: how the nodes start the image."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

ContainerRuntime = Literal[
    "none", "pyxis", "edf", "apptainer", "podman-hpc", "shifter", "podman", "docker", "oci"
]


class ContainerSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the nodes start the image."""

    runtime: Annotated[ContainerRuntime, Meta(description="program that starts the image on the nodes")] = (
        "none"
    )
    mounts: Annotated[
        tuple[str, ...], Meta(description="additional mounts of the container, as source:target[:ro]")
    ] = ()
    modules: Annotated[
        tuple[str, ...],
        Meta(description="modules of podman-hpc or shifter that the container gets, such as nccl"),
    ] = ()
    share_image: Annotated[
        bool,
        Meta(
            description="import an image of a registry once into the root, for all nodes (pyxis, apptainer)"
        ),
    ] = True
