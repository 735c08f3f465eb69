"""Send texts that a fast encoder would encode differently to the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jobctl.prep.encode.encoder import Encoder
from jobctl.prep.shards.format import Ids

IsException = Callable[[str, bytes], bool]
"""A function of a text and its UTF-8, which may be empty."""


class WithExceptions:
    """Encode with a fast encoder, and the texts that are exceptions with the reference."""

    def __init__(self, encoder: Encoder, reference: Callable[[], Encoder], is_exception: IsException) -> None:
        """``reference`` loads the reference when it is needed, because few jobs need it."""
        self.name = encoder.name
        self._encoder = encoder
        self._reference = reference
        self._is_exception = is_exception

    def encode(self, texts: Sequence[str], data: Sequence[bytes] = ()) -> list[Ids]:
        encoded = self._encoder.encode(texts, data)
        known_data = data or [b""] * len(texts)

        for index, (text, datum) in enumerate(zip(texts, known_data, strict=True)):
            if self._is_exception(text, datum):
                [encoded[index]] = self._reference().encode([text])

        return encoded
