"""The spec of a run from the record that its submission wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.job_spec import JobSpec, TrainSpec


def recorded_spec(name: str, record: Mapping[str, Any], trusted: Sequence[str] = ()) -> JobSpec:
    """Return the spec in ``record``, the content of ``run.json``; it trusts the owners ``trusted`` alone.

    Raises UserError where another version of jobctl wrote what this one cannot read.
    """
    spec = record["spec"]
    kind = TrainSpec if spec.get("kind") == "train" else JobSpec
    try:
        read = msgspec.convert(spec, kind)
    except msgspec.ValidationError as error:
        raise UserError(
            f"run '{name}' was submitted by another version of jobctl: {error}",
            hint=f"its version is {spec.get('version', 'unknown')}; submit it anew under another name",
            code=1,
        ) from None
    return msgspec.structs.replace(
        read, trusted=tuple(trusted) or msgspec.UNSET, recorded_hash=record["spec_hash"]
    )
