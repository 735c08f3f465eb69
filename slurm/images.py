"""Decide which images are imported once into the shared root, for all nodes and jobs of a user."""

from __future__ import annotations

import re

from jobctl.jobs.spec.job_spec import JobSpec

_SCHEME = re.compile(r"[a-z]+://")
_OF_THE_NODE = ("dockerd://", "podman://")
"""Schemes of images that a daemon on each node keeps."""


def importer(spec: JobSpec) -> str:
    """Return the program that makes a file of the job's image.

    Return an empty text if the image is already a file, or if each node imports its own. Without this program
    each node would ask the registry: thousands of downloads of ten gigabytes at the same moment.
    """
    container = spec.site.container
    if not container.share_image or spec.image.startswith(("/", "./", *_OF_THE_NODE)):
        return ""

    if container.runtime == "pyxis":
        return "enroot"

    if container.runtime == "apptainer" and _SCHEME.match(spec.image):
        return "apptainer"

    return ""


def address(spec: JobSpec) -> str:
    """Return the image in the form that its importer needs. Pyxis leaves the scheme out."""
    return spec.image if _SCHEME.match(spec.image) else f"docker://{spec.image}"


def file_name(spec: JobSpec) -> str:
    """Return the first part of the file's name. It tells people what the file contains."""
    return re.sub(r"[^A-Za-z0-9._-]+", "+", _SCHEME.sub("", spec.image))


def is_fixed(spec: JobSpec) -> bool:
    """Return whether the reference always names the same image: a digest, or a tag other than ``latest``."""
    # Only the last part, because a registry may have a port behind a colon.
    last = spec.image.rpartition("/")[2]
    return "@sha256:" in last or (":" in last and not last.endswith(":latest"))


def keeps_container(spec: JobSpec) -> bool:
    """Return whether an attempt starts the image twice on a node. Then pyxis keeps the unpacked image."""
    return spec.checked and spec.site.container.runtime == "pyxis"
