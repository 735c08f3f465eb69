"""The section ``container`` of a site: how the nodes start the image."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

ContainerRuntime = Literal["none", "pyxis", "apptainer", "podman", "docker", "oci"]


class ContainerSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the nodes start the image."""

    runtime: Annotated[ContainerRuntime, Meta(description="program that starts the image on the nodes")] = (
        "none"
    )
    mounts: Annotated[
        tuple[str, ...], Meta(description="further source:target[:ro] mounts of the container")
    ] = ()
