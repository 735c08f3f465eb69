"""``state.json``: everything in a checkpoint besides its tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch

from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.checkpoint.integrity import Damaged, later_format
from jobctl.trainer.checkpoint.origin import Origin

STATE_FILE = "state.json"
STATE_FORMAT = 2

Raw = dict[str, Any]


class SourceRecord(msgspec.Struct, frozen=True):
    """One data set of the run, and its share of the samples."""

    path: str
    weight: float


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The counters, the recipe, the data and the random state of a run after a step."""

    format: int = STATE_FORMAT
    step: int
    samples: int
    """The number of samples seen, which is the number of the next one."""
    global_batch_size: int = 0
    """Samples of a step over all ranks; 0 in checkpoints of earlier versions."""
    name: str
    model: ModelConfig
    train: TrainConfig
    sources: tuple[SourceRecord, ...]
    fingerprint: str
    sample_order: int
    """Format of the order of samples. A resumed run keeps the format that it began with."""
    tokenizer: str
    best_val_loss: float | None = None
    bad_streak: int = 0
    origin: Origin | None = None
    """The origin of the run's first weights, if they were not random."""
    random: dict[str, bytes] = {}
    """The state of torch's generators on rank 0, by device type."""


def from_format_1(raw: Raw) -> Raw:
    """Migrate format 1, which had no number. Its runs have the first order of samples."""
    return raw | {"format": 2, "sample_order": 1}


MIGRATIONS: dict[int, Callable[[Raw], Raw]] = {1: from_format_1}
"""Migrations by the format that they read.

If you drop or rename a field, raise STATE_FORMAT and add a migration.
"""


def decode_state(data: bytes, folder: Path) -> State:
    """Return the state in ``data``, of this format or an earlier one.

    Raises Damaged if it is not JSON, UserError if another version of the trainer wrote it.
    """
    try:
        raw = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged([f"{STATE_FILE}: {error}"]) from None

    format = raw.get("format", 1) if isinstance(raw, dict) else None
    if not isinstance(format, int) or format < 1:
        raise Damaged([f"{STATE_FILE}: it is no state of a training"])

    if format > STATE_FORMAT:
        raise later_format(folder, STATE_FILE, format, STATE_FORMAT)

    # One format at a time, so that each migration has to know only the next format.
    for step in range(format, STATE_FORMAT):
        raw = MIGRATIONS[step](raw)

    try:
        return msgspec.convert(raw, State)
    except msgspec.ValidationError as error:
        raise UserError(
            f"checkpoint {folder} was written by another version of the trainer: {error}",
            hint="resume with that version, or choose another --run_dir",
        ) from None


def random_state() -> dict[str, bytes]:
    """Return the state of torch's generators, by device type."""
    states = {"cpu": bytes(torch.get_rng_state().numpy())}
    if torch.cuda.is_available():
        states["cuda"] = bytes(torch.cuda.get_rng_state().numpy())
    return states


def restore_random_state(states: dict[str, bytes]) -> None:
    """Set torch's generators to a state that ``random_state`` returned."""
    if "cpu" in states:
        torch.set_rng_state(torch.frombuffer(bytearray(states["cpu"]), dtype=torch.uint8))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.frombuffer(bytearray(states["cuda"]), dtype=torch.uint8))
