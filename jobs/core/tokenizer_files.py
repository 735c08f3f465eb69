"""The files of a tokenizer's folder, with the names that the hub uses.

The module lists and copies the files, and counts the ids.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from jobctl.jobs.core.durable import write_whole
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.reading import MOST_BYTES_OF_A_LIST, decode_json, read_regular

FILE = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
SPECIAL = "special_tokens_map.json"
MODEL = "config.json"
COPIED = (FILE, SETTINGS, SPECIAL, MODEL)
"""Files that belong to the tokenizer.

The first one defines it. The others name its special tokens and its model.
"""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""The form of a folder's name that can be part of a data set's name."""


class _Model(msgspec.Struct, frozen=True):
    vocab: dict[str, int] | list[Any] = {}
    """The ids by token. In a Unigram model, a list of tokens, each at the position of its id."""


class _AddedToken(msgspec.Struct, frozen=True):
    id: int


class _Contents(msgspec.Struct, frozen=True):
    model: _Model = _Model()
    added_tokens: tuple[_AddedToken, ...] = ()


def is_folder(given: str) -> bool:
    """Return whether a user named a folder and not a tokenizer.

    The name of a folder contains a slash, or begins with a dot.
    """
    return "/" in given or given.startswith(".")


def named_folder(given: str) -> Path:
    """Return the folder that a user named, as an absolute path.

    Raises UserError if it is not a folder, if its name cannot be part of a data set's name, or if it has no
    ``tokenizer.json``.
    """
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise UserError(f"--tokenizer: {given} is not a folder")

    folder = folder.resolve()
    if not NAME.fullmatch(folder.name):
        raise UserError(
            f"--tokenizer: '{folder.name}' cannot name a data set",
            hint="rename the folder: letters, digits, . _ -",
        )

    check_has_file(folder)
    return folder


def check_has_file(folder: Path) -> None:
    """Raise UserError for a folder without ``tokenizer.json``."""
    if not (folder / FILE).is_file():
        raise UserError(
            f"{folder} has no {FILE}",
            hint="write it with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
        )


def sha256_of(folder: Path) -> str:
    """Return the SHA-256 of the file that defines the tokenizer. ``meta.json`` of a data set has it."""
    return hashlib.sha256(read_regular(folder / FILE, MOST_BYTES_OF_A_LIST)).hexdigest()


def number_of_ids(folder: Path) -> int:
    """Return the largest id plus one, including added tokens.

    Raises UserError if the file is damaged, and OSError if it cannot be read.
    """
    file = folder / FILE
    try:
        contents = decode_json(read_regular(file, MOST_BYTES_OF_A_LIST), _Contents)
    except msgspec.MsgspecError as error:
        raise UserError(f"{file} is not a tokenizer: {error}", hint="fetch it again") from None

    vocab = contents.model.vocab
    ids: Iterable[int] = vocab.values() if isinstance(vocab, dict) else range(len(vocab))
    # Without -1 `max` would fail for an empty vocabulary. An empty vocabulary has 0 ids.
    return max([-1, *ids, *(token.id for token in contents.added_tokens)]) + 1


def copy_files(source: Path, target: Path) -> None:
    """Copy the files of a tokenizer to the existing folder ``target``."""
    # Copy the file that defines the tokenizer last, because another process may look in the meantime.
    for name in reversed(COPIED):
        if (source / name).is_file():
            write_whole(target / name, read_regular(source / name, MOST_BYTES_OF_A_LIST))
