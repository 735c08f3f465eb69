"""Tokenizers on disk: ``$JOBCTL_ROOT/tokenizers/NAME/tokenizer.json``, from files that we ship or from the hub.

A folder of any origin is used only if its vocabulary has the catalogue's size, and if the catalogue's fixed text gets
the catalogue's ids.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from jobctl.jobs.catalog.data import TokenizerEntry
from jobctl.jobs.catalog.loader import load_entry
from jobctl.jobs.core import tokenizer_files
from jobctl.jobs.core.durable import make_shared, partial_path, write_whole
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.layout import tokenizer_dir
from jobctl.prep.encode.encoders import Encoders
from jobctl.prep.shards.format import TokenizerRecord
from jobctl.prep.sources.files import sha256_of
from jobctl.prep.sources.shipped import shipped_file

FILE = tokenizer_files.FILE
SETTINGS = tokenizer_files.SETTINGS


def entry_of(name: str) -> TokenizerEntry:
    entry: TokenizerEntry = load_entry("tokenizers", name, TokenizerEntry)
    return entry


def check(
    folder: Path, name: str, entry: TokenizerEntry, encoders: Encoders | None = None
) -> TokenizerRecord:
    """Return the record of the tokenizer in ``folder``.

    Raises UserError if it is absent, damaged or another one.

    ``encoders`` of the same file keep the reference that was checked.
    """
    file = folder / FILE
    again = f"remove {folder} and fetch it again: jobctl tokenizer {name}"
    if not file.is_file():
        raise UserError(
            f"tokenizer '{name}' is not in {folder}", hint=f"fetch it with: jobctl tokenizer {name}"
        )

    try:
        reference = (encoders or Encoders(entry, "tokenizers", file)).bare
    except Exception as error:  # the library raises bare Exception for a file it cannot read
        raise UserError(f"{file} is not a tokenizer: {error}", hint=again) from None

    if reference.vocab_size != entry.vocab_size:
        raise UserError(
            f"{file} has {reference.vocab_size} ids, tokenizer '{name}' has {entry.vocab_size}", hint=again
        )

    if reference.ids(entry.text) != entry.ids:
        raise UserError(f"{file} is not tokenizer '{name}': it gives the fixed text other ids", hint=again)

    return TokenizerRecord(name=name, file=FILE, sha256=sha256_of(file))


def ensure(
    root: Path, name: str, encoders: Encoders | None = None, entry: TokenizerEntry | None = None
) -> TokenizerRecord:
    """Return the record of a tokenizer in ``root`` after a check. If we ship its files, make it first.

    ``entry`` is for a tokenizer that is not in the catalogue.
    """
    entry = entry or entry_of(name)
    folder = tokenizer_dir(root, name)
    if not (folder / FILE).is_file() and entry.shipped:
        build(folder, entry)

    return check(folder, name, entry, encoders)


# -- from shipped files ---------------------------------------------------------------------------------------


def byte_level_bpe(vocab: dict[str, int], merges: list[str], end: str) -> dict[str, Any]:
    """Return GPT-2's ``tokenizer.json``, made of its ``encoder.json`` and the lines of its ``vocab.bpe``."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocab[end], "content": end, **flags}],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": {**byte_level, "trim_offsets": False},
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": merges,
        },
    }


def build(folder: Path, entry: TokenizerEntry) -> None:
    """Make ``tokenizer.json`` of GPT-2's two files in the entry's folder of ``prep/data``."""
    files = {name: shipped_file(f"{entry.shipped}/{name}", digest) for name, digest in entry.sha256.items()}
    vocab = json.loads(files["encoder.json"].read_text(encoding="utf-8"))
    lines = files["vocab.bpe"].read_text(encoding="utf-8").split("\n")
    merges = [line for line in lines[1:] if line]  # the first line is the version
    make_shared(folder.parent)
    folder.mkdir(exist_ok=True)
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "eos_token": entry.eos_token,
        "bos_token": entry.eos_token,
    }

    write_whole(folder / SETTINGS, json.dumps(settings, indent=1).encode())
    # This file comes last: if it exists, the folder is whole.
    data = json.dumps(byte_level_bpe(vocab, merges, entry.eos_token), ensure_ascii=False)
    write_whole(folder / FILE, data.encode())


# -- from the hub --------------------------------------------------------------------------------------------


def fetch(name: str, root: Path, token_env: str = "HF_TOKEN") -> Path:
    """Fetch a tokenizer from the hub, or make it of shipped files. Check it and return its folder.

    The token for the hub comes from the environment variable ``token_env`` and goes only to the hub. Raises
    UserError with the cause: the licence was not accepted, the token is missing or wrong, or the hub does not
    answer.
    """
    entry = entry_of(name)
    folder = tokenizer_dir(root, name)
    if (folder / FILE).is_file() or entry.shipped:
        ensure(root, name)
        return folder

    make_shared(folder.parent)
    partial = partial_path(folder)

    try:
        for file in (FILE, SETTINGS):
            _download(entry, name, file, partial, os.environ.get(token_env) or None, token_env)

        # Checked under the other name, so that the right name always stands for a good folder.
        check(partial, name, entry)
        try:
            os.replace(partial, folder)
        except OSError:
            # The folder exists by now: another process may have fetched the same tokenizer.
            if not (folder / FILE).is_file():
                raise UserError(f"{folder} exists, but has no {FILE}", hint="remove the folder") from None

            check(folder, name, entry)
    finally:
        shutil.rmtree(partial, ignore_errors=True)

    return folder


def _download(
    entry: TokenizerEntry, name: str, file: str, folder: Path, token: str | None, token_env: str
) -> None:
    from huggingface_hub import HfApi, errors, hf_hub_download

    # The client warns of every retry, which a user does not need.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    page = f"https://huggingface.co/{entry.hub}"
    access: dict[str, Any] = {"revision": entry.revision, "token": token or False}

    try:
        hf_hub_download(entry.hub, file, local_dir=folder, **access)
        [about] = HfApi().get_paths_info(entry.hub, file, **access)
    except errors.GatedRepoError:
        hint = (
            f"accept the licence at {page} with your account, and put the account's token into ${token_env}"
        )
        raise UserError(
            f"the hub does not give you {entry.hub}: its licence was not accepted", hint=hint
        ) from None
    except errors.RepositoryNotFoundError:
        hint = f"see {page}; put a token with the right to read it into ${token_env}"
        raise UserError(f"the hub knows no {entry.hub}, or your token may not see it", hint=hint) from None
    except Exception as error:  # also errors of its HTTP library, which change with the version
        hint = f"without a network: copy {FILE} of {page} into $JOBCTL_ROOT/tokenizers/{name}/"
        raise UserError(f"{file} of {entry.hub} could not be fetched: {error}", hint=hint, code=1) from None

    path = folder / file
    if file in entry.sha256 and sha256_of(path) != entry.sha256[file]:
        raise UserError(f"{file} of {entry.hub} is not the file of the catalogue", hint=f"see {page}")

    if not is_what_the_hub_says(path, about):
        raise UserError(
            f"{file} of {entry.hub} was damaged during the download",
            hint="run the same command again",
            code=1,
        )


def is_what_the_hub_says(path: Path, about: Any) -> bool:
    """Return True if a file has the hub's hash: SHA-256 for a large file, git's hash for a small one."""
    if about.lfs:
        return bool(sha256_of(path) == about.lfs.sha256)

    data = path.read_bytes()
    # git hashes a file as a blob: a header with its size, and then the bytes.
    blob = b"blob %d\0" % len(data) + data
    return bool(hashlib.sha1(blob, usedforsecurity=False).hexdigest() == about.blob_id)
