"""``jobctl data adopt FOLDER --tokenizer NAME``: write our ``meta.json`` next to ids of another program.

nanoGPT's ``train.bin`` and ``val.bin``, and Megatron's ``NAME.bin`` with ``NAME.idx``, hold nothing but
ids, like our shards. So nothing is copied. Every id is checked, the bytes are hashed, and the trainer
reads the files in place.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from jobctl.jobs.catalog.data import TokenizerEntry
from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.errors import UserError, run_command
from jobctl.jobs.core.layout import tokenizer_dir
from jobctl.jobs.core.tokenizer_files import is_folder
from jobctl.prep.encode import folders, tokenizers
from jobctl.prep.encode.encoders import Encoders
from jobctl.prep.encode.reference import ReferenceEncoder
from jobctl.prep.shards.format import (
    META_FILE,
    Meta,
    Shard,
    TokenDataset,
    TokenType,
    fingerprint,
    token_dtype,
)
from jobctl.prep.shards.megatron import read_index
from jobctl.prep.shards.survey import id_problems, survey

Counts = npt.NDArray[np.int64]
SAMPLE = 32
"""Tokens to print as text, so that a person can see that the tokenizer is the right one."""
LOOKED_AT = 1 << 16
"""Ids at the beginning of a file that show its width."""
FEWEST = 64
"""The fewest ids that show a width. In a shorter file every other id could be 0 by chance."""
FOREIGN = "meta.pkl"
"""The file in which nanoGPT keeps its characters, if characters are its tokens."""


class File(NamedTuple):
    """A file of ids and its split. ``documents`` is the number in its index, None without an index."""

    path: Path
    split: str
    dtype: TokenType
    tokens: int | None = None
    documents: int | None = None


class Options(NamedTuple):
    """Facts about the ids that the user gives: their type (None: by the vocabulary), and the end of a document."""

    dtype: TokenType | None = None
    eos_token: str = ""


class Adopted(NamedTuple):
    """The data set, and notes for the user."""

    meta: Meta
    notes: list[str]


def files_of(folder: Path, validation: Sequence[str], dtype: TokenType) -> list[File]:
    """Return the files of ids in a folder.

    A file that matches a pattern, or nanoGPT's ``val.bin``, is validation.

    Raises UserError if there is none, or if an index contradicts its file.
    """
    patterns = validation or ["val.bin"]
    files: list[File] = []
    for path in sorted(folder.glob("*.bin")):
        # Patterns must choose the same files on every system, so case always counts.
        split = "val" if any(fnmatch.fnmatchcase(path.name, pattern) for pattern in patterns) else "train"
        index_file = path.with_suffix(".idx")
        if index_file.exists():
            index = read_index(index_file)
            files.append(File(path, split, index.dtype, index.tokens, index.documents))
        else:
            files.append(File(path, split, dtype))

    if not any(file.split == "train" for file in files):
        raise UserError(
            f"{folder} has no .bin file for training",
            hint="name the folder of train.bin, or of NAME.bin and .idx",
        )

    if validation and not any(file.split == "val" for file in files):
        raise UserError(f"--validation: no .bin of {folder} is like {' or '.join(validation)}")

    # `meta.json` has one type for all shards.
    types = {file.dtype for file in files}
    if len(types) > 1:
        raise UserError(
            f"{folder} has ids of several types: {', '.join(sorted(types))}", hint="one folder for each"
        )

    # Training first, then by name: the order of the shards is a part of the fingerprint.
    return sorted(files, key=lambda file: (file.split == "val", file.path.name))


def check_folder(folder: Path) -> None:
    """Raise UserError for a folder that cannot be adopted."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")

    if (folder / META_FILE).exists():
        raise UserError(
            f"{folder} has a {META_FILE}: it is already a data set",
            hint=f"remove {META_FILE} to adopt it again",
        )

    if (folder / FOREIGN).exists():
        raise UserError(
            f"{folder} has a {FOREIGN}, so its ids may mean characters and not a tokenizer's tokens",
            hint=f"remove {FOREIGN} if a tokenizer made them",
        )


def check_width(file: File) -> None:
    """Raise UserError if 32-bit ids would be read as 16-bit ids. Then every other one is 0."""
    if file.dtype != "uint16" or file.tokens is not None:
        return

    first = np.fromfile(file.path, "<u2", LOOKED_AT)
    if len(first) >= FEWEST and not first[1::2].any():
        raise UserError(
            f"{file.path}: every other id is 0, so the ids may have 32 bits",
            hint="if they do: --dtype uint32",
        )


def adopted_shards(files: Sequence[File], entry: TokenizerEntry) -> tuple[list[Shard], Counts]:
    """Read every file once. Return their records, and the count of each id, shape [vocabulary]."""
    counts = np.zeros(entry.vocab_size, np.int64)
    shards: list[Shard] = []
    for file in files:
        check_width(file)
        ids = survey(file.path, file.dtype, entry.vocab_size)
        if file.tokens not in (None, ids.tokens):
            raise UserError(
                f"{file.path} has {ids.tokens} ids, but its index says {file.tokens}",
                hint="the two belong to different data",
            )

        counts += ids.counts
        ends = int(ids.counts[entry.eos_id])
        shards.append(
            Shard(
                file=file.path.name,
                split=file.split,
                tokens=ids.tokens,
                documents=ends,
                # The text is gone, and nobody knows its size.
                text_bytes=0,
                sha256=ids.sha256,
            )
        )

    return shards, counts


def notes_of(files: Sequence[File], meta: Meta, eos_token: str) -> list[str]:
    """Return notes for the user about missing parts of the files."""
    notes: list[str] = []
    for file, shard in zip(files, meta.shards, strict=True):
        if not shard.documents:
            notes.append(f"{shard.file} has no {eos_token}, so the ends of documents are unknown")
        elif file.documents not in (None, shard.documents):
            notes.append(
                f"{shard.file} has {shard.documents} {eos_token} for the {file.documents} documents of its index"
            )

    if not any(shard.split == "val" for shard in meta.shards):
        notes.append("the data has no validation split: name one of the files with --validation")

    return notes


def adopt(folder: Path, root: Path, tokenizer: str, validation: Sequence[str], options: Options) -> Adopted:
    """Write ``meta.json`` into a folder of ids.

    Raises UserError if the ids are not those of the tokenizer.
    """
    check_folder(folder)
    name, entry = folders.resolved(root, tokenizer, options.eos_token)
    files = files_of(folder, validation, options.dtype or token_dtype(entry.vocab_size))
    # Only now, because a folder without usable files must leave no tokenizer behind.
    if is_folder(tokenizer):
        folders.install(Path(tokenizer), tokenizer_dir(root, name))

    encoders = Encoders(entry, "tokenizers", tokenizer_dir(root, name) / tokenizers.FILE)
    record = tokenizers.ensure(root, name, encoders, entry)
    shards, counts = adopted_shards(files, entry)

    meta = Meta(
        dataset=folder.resolve().name,
        dtype=files[0].dtype,
        vocab_size=entry.vocab_size,
        tokenizer=record,
        eos_id=entry.eos_id,
        bos_id=entry.bos_id,
        documents=sum(shard.documents for shard in shards),
        tokens=sum(shard.tokens for shard in shards),
        text_bytes=0,
        shards=tuple(shards),
        options={"adopted": True},
    )
    # Checked before anything is written into the folder of another program.
    problems = id_problems(counts, meta)
    if problems:
        raise UserError(f"{folder}: {problems[0]}", hint="prepare the text again with python -m jobctl.prep")

    # The fingerprint covers all other fields, so it is computed last.
    meta = msgspec.structs.replace(meta, fingerprint=fingerprint(meta))
    write_whole(folder / META_FILE, msgspec.json.format(msgspec.json.encode(meta), indent=1) + b"\n")

    return Adopted(meta, [sample(folder, meta, encoders.bare), *notes_of(files, meta, entry.eos_token)])


def sample(folder: Path, meta: Meta, reference: ReferenceEncoder) -> str:
    """Return the beginning of the training split as text."""
    dataset = TokenDataset(folder, meta, "train")
    ids = dataset.read(0, min(SAMPLE, dataset.num_tokens)).tolist()
    return f"it begins: {reference.decode(ids)!r}"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="jobctl data adopt",
        description="Use ids that nanoGPT or Megatron-LM made, in their folder: check them, and write meta.json.",
    )
    made.add_argument(
        "folder", type=Path, help="the folder of train.bin and val.bin, or of NAME.bin and NAME.idx"
    )
    made.add_argument(
        "--tokenizer", required=True, help="a tokenizer of the catalogue, or ./FOLDER, that made the ids"
    )
    made.add_argument(
        "--validation",
        nargs="+",
        default=[],
        metavar="X",
        help="files of the validation split; default: val.bin",
    )
    made.add_argument(
        "--dtype",
        choices=["uint16", "uint32"],
        help="type of ids without an index; default: by the vocabulary",
    )
    made.add_argument(
        "--eos-token",
        default="",
        help="token that ends a document, if the tokenizer's folder does not name it",
    )
    made.add_argument(
        "--root", type=Path, default=os.environ.get("JOBCTL_ROOT"), help="default: $JOBCTL_ROOT"
    )

    return made


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    if given.root is None:
        raise UserError("the root is unknown: --root is not given and $JOBCTL_ROOT is not set")

    options = Options(given.dtype, given.eos_token)
    meta, notes = adopt(given.folder, given.root, given.tokenizer, given.validation, options)
    for note in notes:
        print(note, file=sys.stderr)

    print(
        f"{given.folder}: {meta.documents:,} documents, {meta.tokens:,} tokens, {meta.dtype}, {meta.fingerprint}"
    )
    return 0


if __name__ == "__main__":
    run_command(main)
