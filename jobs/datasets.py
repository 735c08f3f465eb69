"""Prepared data sets under a root: where one is, and how large."""

from __future__ import annotations

from pathlib import Path

import msgspec

from jobctl.jobs.core import layout
from jobctl.jobs.core.reading import read_regular
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.length import DatasetSize, catalogue_size
from jobctl.jobs.targets.registry import target_entry

TRAINING_SPLIT = "train"
"""The split of the shards that a training reads."""


class Shard(msgspec.Struct, frozen=True):
    """One file of tokens."""

    split: str
    tokens: int


class DatasetMeta(msgspec.Struct, frozen=True):
    """What jobctl reads of a data set's ``meta.json``."""

    vocab_size: int
    shards: tuple[Shard, ...] = ()


def dataset_folder(spec: JobSpec) -> Path:
    """Return the folder of a job's data set, whether it is made yet or not."""
    return layout.dataset_dir(Path(spec.site.root), spec.inputs.dataset, spec.inputs.tokenizer)


def read_meta(folder: Path) -> DatasetMeta:
    """Return the description of the data set in ``folder``.

    Raises OSError, UnicodeDecodeError or msgspec.MsgspecError where there is none, or it is damaged.
    """
    return msgspec.json.decode(read_regular(folder / "meta.json"), type=DatasetMeta)


def dataset_size(spec: JobSpec) -> DatasetSize | None:
    """Return the size of the training split of a job's data set; None where nobody knows it.

    It is counted where this host sees the data set, else the catalogue's estimate.
    """
    if not target_entry(spec.target).shares_files:
        return catalogue_size(spec)

    try:
        meta = read_meta(dataset_folder(spec))
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        # A submission says what is wrong with it: ``check_inputs``.
        return catalogue_size(spec)

    tokens = sum(shard.tokens for shard in meta.shards if shard.split == TRAINING_SPLIT)
    return DatasetSize(tokens=tokens, is_exact=True) if tokens else catalogue_size(spec)
