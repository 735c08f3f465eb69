"""``run.json``: the record of a run as a typed value, whatever version of jobctl wrote it.

Format 1 has no number: jobctl 0.1 before the formats. A new format adds its step to ``_MIGRATIONS``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from jobctl.jobs.catalog.schema import HardwareFacts, Inputs, ModelConfig, Resources, Site, TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.job_spec import RECORD_FORMAT, JobSpec, TrainSpec

Settings = dict[str, Any]
_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "resources": Resources,
    "inputs": Inputs,
    "site": Site,
    "facts": HardwareFacts,
    "model": ModelConfig,
    "train": TrainConfig,
}


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One run as it was submitted."""

    spec: JobSpec
    format: int = RECORD_FORMAT
    """The format that the record was written in."""
    spec_hash: str = ""
    """The hash that its writer computed. To compare two jobs, take ``spec.fingerprint()`` of both."""
    submitted: str = ""
    """UTC time in ISO 8601; empty where the script was submitted by hand."""
    git_revision: str | None = None
    """Revision of the source tree that submitted."""


class _Submission(msgspec.Struct, frozen=True):
    """The part of a record beside its spec."""

    spec_hash: str = ""
    submitted: str = ""
    git_revision: str | None = None


def decode(text: str | bytes, where: object) -> RunRecord:
    """Return the record in ``text``, which was read at ``where``.

    Raises UserError where it is no record, and where a newer version wrote it.
    """
    try:
        return _read(json.loads(text), where)
    except ValueError as error:
        raise UserError(f"{where}: {error}", code=1) from None


def _read(data: Any, where: object) -> RunRecord:
    if not isinstance(data, dict) or not isinstance(data.get("spec"), dict):
        raise UserError(f"{where}: not the record of a run", code=1)

    written = data.get("format", 1)
    if not isinstance(written, int) or written > RECORD_FORMAT:
        raise UserError(
            f"{where}: its format is {written!r}, and this jobctl reads up to {RECORD_FORMAT}",
            hint="use the version of jobctl that submitted the run",
            code=1,
        )
    for number in range(written, RECORD_FORMAT):
        data = _MIGRATIONS[number](data)

    try:
        spec = read_spec(data["spec"])
        submission = msgspec.convert(data, _Submission)
    except msgspec.ValidationError as error:
        version = data["spec"].get("version", "unknown")
        raise UserError(
            f"{where}: jobctl {version} submitted this run, and this version cannot read its record: {error}",
            hint="use the version of jobctl that submitted the run",
            code=1,
        ) from None
    return RunRecord(spec=spec, format=written, **msgspec.structs.asdict(submission))


def read_spec(settings: Mapping[str, Any]) -> JobSpec:
    """Return the spec of ``settings``. A key that this version no longer has is left out.

    Raises msgspec.ValidationError for a missing key and for a wrong value.
    """
    known = {name: _known(name, value) for name, value in settings.items()}
    return msgspec.convert(known, TrainSpec if "model" in settings else JobSpec)


def _known(name: str, value: Any) -> Any:
    section = _SECTIONS.get(name)
    if section is None or not isinstance(value, dict):
        return value
    return {key: value[key] for key in section.__struct_fields__ if key in value}


def _from_1(data: Settings) -> Settings:
    """Format 2 leaves out what only other targets read, so every record of format 1 is one of format 2."""
    return {**data, "submitted": data.get("submitted") or ""}


_MIGRATIONS: dict[int, Callable[[Settings], Settings]] = {1: _from_1}
"""How to make a record of the next format, by the format it has."""
