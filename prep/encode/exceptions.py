"""Send texts that a fast encoder would encode differently to the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jobctl.prep.encode.encoder import Encoder
from jobctl.prep.encode.look import Look, looks_of
from jobctl.prep.shards.format import Ids

IsException = Callable[[str, Look], bool]
"""A function of a text and its known facts."""


class WithExceptions:
    """Encode with a fast encoder, but encode exceptional texts with the reference."""

    def __init__(self, encoder: Encoder, reference: Callable[[], Encoder], is_exception: IsException) -> None:
        """``reference`` loads the reference when it is needed, because few jobs need it."""
        self.name = encoder.name
        self._encoder = encoder
        self._reference = reference
        self._is_exception = is_exception

    def encode(self, texts: Sequence[str], looks: Sequence[Look] = ()) -> list[Ids]:
        looks = looks_of(texts, looks)
        encoded = self._encoder.encode(texts, looks)

        for index, (text, seen) in enumerate(zip(texts, looks, strict=True)):
            if self._is_exception(text, seen):
                [encoded[index]] = self._reference().encode([text])

        return encoded
