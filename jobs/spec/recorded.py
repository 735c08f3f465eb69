"""Settings for a job on the checkpoint of a run. They come from the run's record.

The user sets only differences.
"""

from __future__ import annotations

from typing import Any

import msgspec

from jobctl.jobs.catalog.entries import HardwareEntry
from jobctl.jobs.catalog.schema.keys import flat
from jobctl.jobs.kinds import JobKind
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.layers import Layer

SECTIONS = ("resources", "inputs", "site", "model", "train")
"""Fields of a spec whose keys a user may set."""
OF_ANY_HARDWARE = ("dataset", "tokenizer", "image")
"""Inputs of a run that are right for any hardware.

The image is one of them: if the user named it, it contains the run's code.
"""


def sections_of(spec: JobSpec) -> dict[str, msgspec.Struct]:
    """Return the sections that ``spec`` has, by name."""
    return {name: getattr(spec, name) for name in SECTIONS if hasattr(spec, name)}


def settings_of(spec: JobSpec) -> dict[str, Any]:
    """Return all keys of the spec's sections. No name occurs in two sections."""
    parts = [part for name, part in sections_of(spec).items() if name != "site"]
    settings: dict[str, Any] = {}
    for part in parts:
        settings |= msgspec.structs.asdict(part)

    return settings | flat(spec.site)


def recorded_layers(spec: JobSpec, kind: JobKind) -> list[Layer]:
    """Return the settings that a job of ``kind`` takes from the run that ``spec`` describes, weakest first.

    A job with a model runs on the hardware of the run. Any other job has other hardware, so it takes only the
    data and the site.
    """
    name = f"run {spec.run}"
    if kind.has_model:
        return [Layer(name, settings_of(spec))]

    inputs = {key: getattr(spec.inputs, key) for key in OF_ANY_HARDWARE}
    return [Layer(name, inputs | flat(spec.site))]


def recorded_hardware(spec: JobSpec) -> HardwareEntry:
    """Return the hardware of a recorded job, with the facts that its record has."""
    return HardwareEntry(
        summary=spec.hardware,
        facts=spec.facts,
        settings={"gpus_per_node": spec.resources.gpus_per_node},
    )
