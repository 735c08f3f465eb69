"""Read a tokenizer's entry from its folder, if the catalogue has no entry for it.

Nothing is proven about such a tokenizer. So the reference encodes, and texts are never cut. If different
texts may get the same ids, documents are told apart by their ids.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from jobctl.jobs.catalog.data import TokenizerEntry
from jobctl.jobs.catalog.loader import load_entry, names
from jobctl.jobs.core.durable import make_shared
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.layout import tokenizer_dir
from jobctl.jobs.core.reading import MOST_BYTES_OF_A_LIST, decode_json, read_regular
from jobctl.jobs.core.tokenizer_files import (
    FILE,
    MODEL,
    SETTINGS,
    SPECIAL,
    check_has_file,
    copy_files,
    is_folder,
    named_folder,
)
from jobctl.prep.encode.reference import ReferenceEncoder
from jobctl.prep.encode.tokenizer_file import TokenizerFile
from jobctl.prep.encode.tokenizers import check

TEXT = "Fellow-Citizens of 1790,  don't DON'T:\ttwo\n\n caf\u00e9 cafe\u0301 \u5b83 \U0001f642 123456"
"""A text whose ids show later that the file is still the same tokenizer."""


def settings_of(folder: Path, name: str) -> dict[str, Any]:
    """Return the content of a JSON file, or nothing if it is absent. Raises UserError if it is damaged."""
    path = folder / name
    try:
        return decode_json(read_regular(path), dict[str, Any])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}", hint="fetch the tokenizer again") from None


def token_named(folder: Path, key: str) -> str:
    """Return the string of a special token, or an empty text if the folder names none.

    ``transformers`` writes the string itself, or an object with the string as ``content``.
    """
    for name in (SETTINGS, SPECIAL):
        value = settings_of(folder, name).get(key)
        if isinstance(value, dict):
            value = value.get("content")

        if isinstance(value, str) and value:
            return value

    return ""


def id_of(reference: ReferenceEncoder, token: str, folder: Path) -> int:
    """Return the id of a special token. Raises UserError if the vocabulary does not have it."""
    number = reference.id_of(token)
    if number is None:
        raise UserError(
            f"the vocabulary of {folder / FILE} has no token '{token}'",
            hint="name the token that ends a document with --eos-token",
        )

    return number


def model_rows(folder: Path, vocab_size: int) -> int:
    """Return the rows of the model's embedding. Raises UserError if the tokenizer has more ids."""
    settings = settings_of(folder, MODEL)
    # A model for pictures and text keeps the settings of its language model in a section.
    inner = settings.get("text_config")
    rows = settings.get("vocab_size") or (inner.get("vocab_size") if isinstance(inner, dict) else None)
    # Not every folder has a model's settings, and then the vocabulary is all that is known.
    if not isinstance(rows, int):
        return vocab_size

    if rows < vocab_size:
        raise UserError(
            f"{folder / MODEL} gives the model {rows} ids, but its tokenizer has {vocab_size}",
            hint="the files belong to different models, or somebody added tokens only to the tokenizer",
        )

    return rows


def entry_of_folder(folder: Path, eos_token: str = "") -> TokenizerEntry:
    """Read an entry from a tokenizer's folder. A given ``eos_token`` overrides that of the folder.

    Raises UserError that names the absent file or token.
    """
    file = folder / FILE
    check_has_file(folder)

    try:
        tokenizer_file = TokenizerFile(file)
        reference = ReferenceEncoder(tokenizer_file)
    except Exception as error:  # the library raises bare Exception for a file it cannot read
        raise UserError(f"{file} is not a tokenizer: {error}", hint="fetch it again") from None

    eos = eos_token or token_named(folder, "eos_token")
    if not eos:
        raise UserError(
            f"{folder} does not say which token ends a document",
            hint="name it with --eos-token '<|endoftext|>'",
        )

    bos = token_named(folder, "bos_token")
    return TokenizerEntry(
        summary=f"tokenizer of the folder {folder.name}",
        license="the user's",
        hub="",
        vocab_size=reference.vocab_size,
        model_vocab_size=model_rows(folder, reference.vocab_size),
        eos_id=id_of(reference, eos, folder),
        eos_token=eos,
        bos_id=reference.id_of(bos) if bos else None,
        bos_token=bos,
        text=TEXT,
        ids=reference.ids(TEXT),
    )


def resolved(root: Path, given: str, eos_token: str = "") -> tuple[str, TokenizerEntry]:
    """Return the name and the entry of a tokenizer that a user gave as a name or as a folder.

    A name that is not in the catalogue may belong to a folder that was copied to the root earlier. Raises
    UserError.
    """
    if not is_folder(given):
        folder = tokenizer_dir(root, given)
        if given in names("tokenizers") or not (folder / FILE).is_file():
            return given, catalogued(given, eos_token)

        return given, entry_of_folder(folder, eos_token)

    source = named_folder(given)
    name = source.name
    if name in names("tokenizers"):
        entry = catalogued(name, eos_token)
        check(source, name, entry)
        return name, entry

    return name, entry_of_folder(source, eos_token)


def catalogued(name: str, eos_token: str) -> TokenizerEntry:
    """Return an entry of the catalogue. Raises UserError for another end of a document than the entry's."""
    entry: TokenizerEntry = load_entry("tokenizers", name, TokenizerEntry)
    if eos_token not in ("", entry.eos_token):
        raise UserError(
            f"--eos-token: tokenizer '{name}' of the catalogue ends a document with {entry.eos_token}",
            hint="copy its folder under another name, and give that: --tokenizer ./FOLDER",
        )

    return entry


def install(source: Path, target: Path) -> None:
    """Copy the files of a tokenizer to the root, where ``verify`` and other nodes look for them by name.

    Raises UserError if another tokenizer has the name.
    """
    if source.resolve() == target.resolve():
        return

    data = read_regular(source / FILE, MOST_BYTES_OF_A_LIST)
    if (target / FILE).is_file() and read_regular(target / FILE, MOST_BYTES_OF_A_LIST) != data:
        raise UserError(
            f"{target} is another tokenizer of the same name", hint="rename one of the two folders"
        )

    make_shared(target.parent)
    target.mkdir(exist_ok=True)
    copy_files(source, target)
