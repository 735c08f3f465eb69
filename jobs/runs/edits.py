"""Edits of a run: settings that a user changed after the submission. The record keeps them beside the spec.

The spec and its hash stay as they were submitted, because they identify the run. Every later attempt uses
the spec with all edits, in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from jobctl.jobs.catalog import consistency
from jobctl.jobs.catalog.resuming import DERIVED, FIXED, MAY_BE_ALLOWED
from jobctl.jobs.catalog.schema.keys import split_key
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.stamps import utc_stamp
from jobctl.jobs.spec.job_spec import JobSpec, TrainSpec
from jobctl.jobs.spec.layers import Layer, merge, parse_set, section, site_of
from jobctl.jobs.spec.recorded import sections_of, settings_of
from jobctl.jobs.spec.secrets import refuse_secrets

ANOTHER_RUN = FIXED | {"tokenizer", "eval_only", "init_from", "sweep_batch_sizes"}
"""Keys that define the run. A run with another value would be a different run."""

ANOTHER_PLACE = frozenset(
    {"root", "kubernetes.context", "kubernetes.namespace", "kubernetes.pvc", "slurm.cluster"}
)
"""Keys that define the place of the run directory, its record, and its jobs."""


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """One ``jobctl resume --set``: catalogue keys and their new values."""

    settings: dict[str, Any]
    time: str
    """UTC time in ISO 8601."""
    after_attempt: int
    """The last attempt without the edit; 0 if no attempt had begun, or if the cluster keeps the attempts."""


def edited(spec: JobSpec, edits: Sequence[Edit]) -> JobSpec:
    """Return ``spec`` with ``edits``.

    It also names the settings that may differ from those of the checkpoint. Raises UserError for a key or a
    value that the catalogue does not have.
    """
    if not edits:
        return spec

    layers = [Layer("the run", settings_of(spec))]
    layers += [Layer(f"edit of {edit.time}", edit.settings) for edit in edits]
    values, origins = merge(layers)
    changed: dict[str, Any] = {
        name: site_of(values, origins) if name == "site" else section(type(part), values, origins)
        for name, part in sections_of(spec).items()
    }
    keys = {split_key(key)[0] for edit in edits for key in edit.settings}
    # The user has asked for these changes, so the trainer need not refuse them at the checkpoint.
    changed["edited"] = tuple(sorted(keys & MAY_BE_ALLOWED))

    return msgspec.structs.replace(spec, **changed)


def make_edit(spec: JobSpec, sets: Sequence[str], after_attempt: int) -> Edit:
    """Return the edit for the words ``KEY=VALUE`` of a command line. ``spec`` is the run as it is now.

    Raises UserError for a key that would make it a different run, and for settings that do not fit together.
    """
    settings = dict(parse_set(text) for text in sets)
    for key in settings:
        _check_key(split_key(key)[0], spec)

    # Every user who may read the run can read the record.
    refuse_secrets([Layer("--set", settings)], ())
    now = utc_stamp()
    edit = Edit(settings=settings, time=now, after_attempt=after_attempt)
    _check_whole(spec, edited(spec, [edit]), settings)

    return edit


def lengthens(spec: JobSpec, edit: Edit) -> bool:
    """Return whether a finished run has more steps to do after ``edit``."""
    wanted = edit.settings.get("max_iters")
    return isinstance(spec, TrainSpec) and isinstance(wanted, int) and wanted > spec.train.max_iters


def describe(edit: Edit) -> str:
    """Return one line for people."""
    settings = ", ".join(f"{key}={value}" for key, value in edit.settings.items())
    return f"{edit.time} after attempt {edit.after_attempt}: {settings}"


def _check_key(key: str, spec: JobSpec) -> None:
    if key in ANOTHER_RUN:
        raise UserError(
            f"--set {key}: a run with a checkpoint cannot change this key",
            hint=f"start a new run from its weights: jobctl submit … -- --init_from=run:{spec.run}",
        )

    if key in ANOTHER_PLACE:
        raise UserError(f"--set {key}: this key sets where the run is stored", hint="submit a new run there")


def _check_whole(before: JobSpec, after: JobSpec, settings: dict[str, Any]) -> None:
    if not (isinstance(before, TrainSpec) and isinstance(after, TrainSpec)):
        return

    consistency.check_training(after.model, after.train)
    # Other resources change the number of processes. They change the batch too, even if the user set no key
    # of the training.
    batch = before.global_batch_size
    changed = after.global_batch_size
    if batch == changed or settings.keys() & DERIVED & {"batch_size", "gradient_accumulation_steps"}:
        return

    raise UserError(
        f"{before.world_size} -> {after.world_size} processes change the batch of a step from {batch} to "
        f"{changed} sequences",
        hint="also set gradient_accumulation_steps: it keeps the batch, or confirms the new one",
    )
