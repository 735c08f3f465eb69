"""Prepared data sets and tokenizers under a root: their places and their sizes."""

from __future__ import annotations

from pathlib import Path

import msgspec

from jobctl.jobs.catalog.loader import names
from jobctl.jobs.core import layout, tokenizer_files
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.jobs.core.reading import decode_json, read_regular
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.length import DatasetSize, catalogue_size
from jobctl.jobs.spec.tokenizer_folder import catalogue_ids
from jobctl.jobs.targets.registry import target_entry

TRAINING_SPLIT = "train"
"""The split of the shards that a training reads."""


class Shard(msgspec.Struct, frozen=True):
    """One file of tokens."""

    split: str
    tokens: int


class TokenizerRecord(msgspec.Struct, frozen=True):
    """The tokenizer that made the ids, by the hash of its ``tokenizer.json``."""

    sha256: str = ""


class DatasetMeta(msgspec.Struct, frozen=True):
    """The part of a data set's ``meta.json`` that jobctl reads."""

    vocab_size: int
    shards: tuple[Shard, ...] = ()
    tokenizer: TokenizerRecord = TokenizerRecord()


def dataset_folder(spec: JobSpec) -> Path:
    """Return the folder of a job's data set, whether it exists yet or not."""
    return layout.dataset_dir(Path(spec.site.root), spec.inputs.dataset, spec.inputs.tokenizer)


def read_meta(folder: Path) -> DatasetMeta:
    """Return the description of the data set in ``folder``.

    Raises OSError or msgspec.MsgspecError if it is missing or damaged.
    """
    return decode_json(read_regular(folder / "meta.json"), DatasetMeta)


def dataset_size(spec: JobSpec) -> DatasetSize | None:
    """Return the size of the training split of a job's data set, or None if it is unknown.

    The tokens are counted if this host sees the data set. Otherwise the size is the catalogue's estimate.
    """
    # This host cannot see a cluster's volume.
    if not target_entry(spec.target).shares_files:
        return catalogue_size(spec)

    try:
        meta = read_meta(dataset_folder(spec))
    except (OSError, msgspec.MsgspecError):
        # A submission names the fault: ``check_inputs``.
        return catalogue_size(spec)

    tokens = sum(shard.tokens for shard in meta.shards if shard.split == TRAINING_SPLIT)
    return DatasetSize(tokens=tokens, is_exact=True) if tokens else catalogue_size(spec)


def tokenizer_folder(spec: JobSpec) -> Path:
    """Return the folder of a job's tokenizer under the root, whether it exists yet or not."""
    return layout.tokenizer_dir(Path(spec.site.root), spec.inputs.tokenizer)


def tokenizer_ids(spec: JobSpec) -> int | None:
    """Return the number of ids of a job's tokenizer.

    Return None if it is not in the catalogue and this host does not see it.

    Raises UserError for an unknown tokenizer, if this host sees the root.
    """
    name = spec.inputs.tokenizer
    if name in names("tokenizers"):
        return catalogue_ids(spec)

    for folder in _folders_of(spec):
        if (folder / tokenizer_files.FILE).is_file():
            return tokenizer_files.number_of_ids(folder)

    if not target_entry(spec.target).shares_files:
        return None

    try:
        # The folder may hold ids that another program made, without their tokenizer.
        return read_meta(dataset_folder(spec)).vocab_size
    except (OSError, msgspec.MsgspecError):
        raise unknown_tokenizer(spec) from None


def _folders_of(spec: JobSpec) -> list[Path]:
    """Return the folders that may contain a job's tokenizer, as far as this host sees them."""
    given = [Path(spec.tokenizer_folder.folder)] if spec.tokenizer_folder else []
    return [*given, tokenizer_folder(spec)] if target_entry(spec.target).shares_files else given


def unknown_tokenizer(spec: JobSpec) -> UserError:
    """Return the error for a tokenizer that neither the catalogue nor the root has."""
    name = spec.inputs.tokenizer
    return UserError(
        f"unknown tokenizer '{name}'; {nearest(name, names('tokenizers'))}",
        hint="jobctl catalog list tokenizers; or the folder of a tokenizer.json: --tokenizer ./FOLDER",
    )
