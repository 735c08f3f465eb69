from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jobctl.jobs.catalog.data import EncoderName
from jobctl.prep.encode.exceptions import WithExceptions
from jobctl.prep.encode.look import Look, look
from jobctl.prep.shards.format import Ids


class Constant:
    """Gives every text one id."""

    name: EncoderName = "fastokens"

    def __init__(self, token: int) -> None:
        self.token = token

    def encode(self, texts: Sequence[str], looks: Sequence[Look] = ()) -> list[Ids]:
        return [np.array([self.token], np.uint32) for _ in texts]


def test_exceptions_go_to_the_reference_and_keep_their_places() -> None:
    encoder = WithExceptions(
        Constant(1), lambda: Constant(2), lambda text, seen: "x" in text or seen.data == b"y"
    )
    assert [ids.tolist() for ids in encoder.encode(["a", "x", "b"])] == [[1], [2], [1]]
    assert [ids.tolist() for ids in encoder.encode(["a", "b"], [look("y"), look("b")])] == [[2], [1]]
    assert encoder.name == "fastokens"
