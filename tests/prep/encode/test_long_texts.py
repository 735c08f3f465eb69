from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.prep.encode.encoders import puts_a_space_first
from jobctl.prep.encode.long_texts import LongTexts, cuts
from tests.prep.encode.real import NAMES, english, entry_of, made, same


@pytest.mark.parametrize("part", [40, 1000, 5001])
@pytest.mark.parametrize("name", NAMES)
def test_a_text_encoded_in_parts_gives_the_same_ids(files: dict[str, Path], name: str, part: int) -> None:
    encoder = made(entry_of(name).encoders[0], files[name])
    texts = ["short", *english()[:4], "  a b  c d 's t" * 40, " x" * 3000, "é a b e\u0301 c" * 300]
    parts = LongTexts(encoder, puts_a_space_first(files[name]), part).encode(texts)
    assert same(parts, encoder.encode(texts))


def test_cuts_are_before_a_space_between_letters_and_parts_are_short() -> None:
    text = english()[0]
    places = cuts(text, part=100)
    assert places is not None
    assert all(
        text[place] == " " and text[place - 1 : place + 2].replace(" ", "").isalpha() for place in places[1:]
    )
    assert max(b - a for a, b in zip(places, [*places[1:], len(text)], strict=True)) <= 100


def test_no_cut_where_there_is_no_place_for_one() -> None:
    assert cuts("x" * 1000, part=100, unbroken=500) is None
    assert cuts("x" * 400, part=100, unbroken=500) == [0]
    assert cuts("x" * 300 + " y" + "z" * 50, part=100, unbroken=500) == [0, 300]
