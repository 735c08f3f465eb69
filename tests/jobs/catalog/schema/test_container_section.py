"""Every key of ``container:`` reaches the command that starts the image."""

from __future__ import annotations

from typing import get_args

import pytest

from jobctl.jobs.catalog.schema import KEYS, ContainerRuntime, ContainerSection
from tests.jobs.catalog.schema.settings import keys_without_effect, rendered

IMAGE = {"image": "/images/jobctl.sqsh"}
NAMED = {"image": "jobctl.sqsh"}
SHARED = "container.share_image"
VALUES = {
    "container.runtime": "apptainer",
    "container.mounts": ["/data:/data:ro"],
    "container.modules": ["nccl"],
}


def test_each_key_changes_the_script() -> None:
    beside = {**IMAGE, "container.runtime": "podman-hpc"}
    assert keys_without_effect("slurm", VALUES, beside) == []
    of_a_registry = {"image": "me/jobctl:1", "container.runtime": "pyxis"}
    assert keys_without_effect("slurm", {SHARED: False}, of_a_registry) == []
    assert {key for key, kind in KEYS.items() if kind is ContainerSection} == {*VALUES, SHARED}


@pytest.mark.parametrize("runtime", get_args(ContainerRuntime))
def test_each_runtime_starts_the_payload_in_another_way(runtime: str) -> None:
    """``none`` starts no image; all others name it."""
    image = NAMED if runtime == "shifter" else IMAGE
    script = rendered("slurm", {**image, "container.runtime": runtime})
    assert ("jobctl.sqsh" in script) == (runtime != "none")
