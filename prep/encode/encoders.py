"""The encoders of a job: the one in use, and the reference."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from jobctl.jobs.catalog.data import ControlTokens, EncoderName, TokenizerEntry
from jobctl.jobs.core.errors import UserError
from jobctl.prep.encode.encoder import Encoder
from jobctl.prep.encode.exceptions import WithExceptions
from jobctl.prep.encode.fast import FastokensEncoder, GigatokenEncoder
from jobctl.prep.encode.identity import Identity, text_identity
from jobctl.prep.encode.long_texts import LongTexts
from jobctl.prep.encode.look import Look
from jobctl.prep.encode.reference import ReferenceEncoder
from jobctl.prep.encode.tokenizer_file import TokenizerFile

CLASSES: dict[str, Callable[[TokenizerFile], Encoder]] = {
    "tokenizers": ReferenceEncoder,
    "fastokens": FastokensEncoder,
    "gigatoken": GigatokenEncoder,
}


def load_encoder(name: EncoderName, file: TokenizerFile, reference: Callable[[], Encoder]) -> Encoder:
    """Load an encoder by name. Raises ImportError if its package is not installed."""
    encoder = CLASSES[name](file)
    if name != "gigatoken":
        return encoder

    def is_exception(text: str, seen: Look) -> bool:
        return seen.has_new or (not seen.is_nfc and file.order_matters(text))

    return WithExceptions(encoder, reference, is_exception)


def choose(
    entry: TokenizerEntry, wanted: EncoderName, file: TokenizerFile, reference: Callable[[], Encoder]
) -> Encoder:
    """Return the wanted encoder. For ``auto``, return the first installed one in the entry's list."""
    if wanted not in ("auto", "tokenizers") and not entry.is_catalogued:
        raise UserError(
            f"--encoder {wanted}: nobody has proven that it gives this tokenizer's ids",
            hint="leave it out: a tokenizer that is not in the catalogue is encoded by the reference",
        )

    names: Sequence[EncoderName] = entry.encoders if wanted == "auto" else [wanted]

    for name in names:
        try:
            return load_encoder(name, file, reference)
        # A user who named an encoder wants exactly that one. With auto the next one is tried.
        except ImportError:
            if wanted != "auto":
                raise UserError(f"encoder {name} is not installed", hint=f"pip install {name}") from None

    return reference()


class Encoders:
    """The encoder in use and the reference. Each is loaded on first use, which takes up to a second."""

    def __init__(
        self,
        tokens: TokenizerEntry,
        wanted: EncoderName,
        path: Path,
        control_tokens: ControlTokens = "ids",
    ) -> None:
        self._tokens = tokens
        self._wanted: EncoderName = wanted
        self._path = path
        self._control_tokens: ControlTokens = control_tokens

    @functools.cached_property
    def file(self) -> TokenizerFile:
        return TokenizerFile(self._path, self._control_tokens)

    @functools.cached_property
    def fast(self) -> Encoder:
        encoder = choose(self._tokens, self._wanted, self.file, lambda: self.bare)
        return self._in_parts(encoder)

    def _in_parts(self, encoder: Encoder) -> Encoder:
        """Wrap an encoder so that long texts are cut.

        Safe cuts are known only for tokenizers of the catalogue.
        """
        return LongTexts(encoder, self.bare, self.file) if self._tokens.is_catalogued else encoder

    @property
    def identity(self) -> Identity:
        """Return the function that returns the identity of a document.

        Documents with the same ids have the same identity.

        So no document is in both splits.
        """
        if self._tokens.is_catalogued or self.file.tells_texts_apart:
            return text_identity

        return lambda text: self.reference.encode([text])[0].tobytes()

    @functools.cached_property
    def bare(self) -> ReferenceEncoder:
        """Return the reference, which does not cut long texts."""
        return ReferenceEncoder(self.file)

    @functools.cached_property
    def reference(self) -> Encoder:
        return self._in_parts(self.bare)

    def load(self) -> None:
        """Load both, so that processes forked from this one have them."""
        self.fast  # noqa: B018 - a look loads it
        self.reference  # noqa: B018
