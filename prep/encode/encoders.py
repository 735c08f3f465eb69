"""The encoders of a job: the one in use, and the reference."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from jobctl.jobs.catalog.data import EncoderName, TokenizerEntry
from jobctl.jobs.core.errors import UserError
from jobctl.prep.encode.characters import KnownCharacters
from jobctl.prep.encode.encoder import Encoder
from jobctl.prep.encode.fast import FastokensEncoder, GigatokenEncoder
from jobctl.prep.encode.long_texts import LongTexts
from jobctl.prep.encode.reference import ReferenceEncoder

CLASSES: dict[str, type[ReferenceEncoder | FastokensEncoder | GigatokenEncoder]] = {
    "tokenizers": ReferenceEncoder,
    "fastokens": FastokensEncoder,
    "gigatoken": GigatokenEncoder,
}


class Steps(msgspec.Struct):
    """The steps of a ``tokenizer.json`` that come before its model."""

    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None


def puts_a_space_first(file: Path) -> bool:
    """Return whether a ``tokenizer.json`` begins every text with a space, as SentencePiece does."""
    steps = msgspec.json.decode(file.read_bytes(), type=Steps)
    normalizer = steps.normalizer or {}
    all_steps = [*normalizer.get("normalizers", [normalizer]), steps.pre_tokenizer or {}]
    return any(step.get("type") in ("Prepend", "Metaspace") for step in all_steps)


def choose(
    entry: TokenizerEntry, wanted: EncoderName, file: Path, reference: Callable[[], Encoder]
) -> Encoder:
    """Return the encoder that is wanted; for ``auto`` the first of the entry's that is installed."""
    names: Sequence[str] = entry.encoders if wanted == "auto" else [wanted]

    for name in names:
        try:
            encoder: Encoder = CLASSES[name](file)
        except ImportError:
            if wanted != "auto":
                raise UserError(f"encoder {name} is not installed", hint=f"pip install {name}") from None
            continue

        if name == "gigatoken":
            encoder = KnownCharacters(encoder, reference)
        return LongTexts(encoder, puts_a_space_first(file))

    return LongTexts(reference(), puts_a_space_first(file))


class Encoders:
    """The encoder in use and the reference. Each is loaded on first use, which takes up to a second."""

    def __init__(self, tokens: TokenizerEntry, wanted: EncoderName, file: Path) -> None:
        self._tokens = tokens
        self._wanted: EncoderName = wanted
        self._file = file

    @functools.cached_property
    def fast(self) -> Encoder:
        return choose(self._tokens, self._wanted, self._file, lambda: self.bare)

    @functools.cached_property
    def bare(self) -> ReferenceEncoder:
        """Return the reference without the care for long texts."""
        return ReferenceEncoder(self._file)

    @functools.cached_property
    def reference(self) -> Encoder:
        return LongTexts(self.bare, puts_a_space_first(self._file))

    def load(self) -> None:
        """Load both, so that processes forked from this one have them."""
        self.fast  # noqa: B018 - a look loads it
        self.reference  # noqa: B018
