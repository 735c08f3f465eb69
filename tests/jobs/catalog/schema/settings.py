"""Whether a setting has an effect: a job is rendered without it and with it."""

from __future__ import annotations

from typing import Any

from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.jobs.targets.registry import load_target

Settings = dict[str, Any]


def rendered(target: str, settings: Settings) -> str:
    """Return the script or manifest, without the record and the hash, which name every setting."""
    named = {"preflight": "report", "nodes": 2, **settings}
    choices = Choices(model="llama3_2.2b", hardware="h200", target=target, run="r", named=named)
    spec = resolve(choices, version="1", root="/root").spec
    return without_record(load_target(target).render(spec), spec)


def without_record(text: str, spec: JobSpec) -> str:
    """Return ``text`` without the lines that hold the record of ``spec``, and without its hash."""
    lines = [line for line in text.splitlines() if '"spec":' not in line]
    return "\n".join(lines).replace(spec.fingerprint(), "HASH")


def keys_without_effect(target: str, values: Settings, beside: Settings) -> list[str]:
    """Return the keys of ``values`` that change nothing where the settings ``beside`` are made as well."""
    before = rendered(target, beside)
    return [key for key, value in values.items() if rendered(target, beside | {key: value}) == before]
