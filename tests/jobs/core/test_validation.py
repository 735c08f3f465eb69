"""A wrong value is refused in plain words, without the names of Python's types and without patterns."""

from __future__ import annotations

import argparse
import typing
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from jobctl.jobs.catalog.schema import SECTIONS
from jobctl.jobs.core.validation import expected, in_words, whole_number


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (bool, "true or false"),
        (int, "a whole number"),
        (Annotated[int, Meta(ge=1)], "a whole number of at least 1"),
        (Annotated[float, Meta(gt=0, lt=1)], "a number above 0 and below 1"),
        (Annotated[float, Meta(ge=0.0, le=1.0)], "a number of at least 0.0 and of at most 1.0"),
        (Annotated[str, Meta(pattern="^x$", description="a cross")], "a cross"),
        (Annotated[str, Meta(pattern="^x$")], "text of the form ^x$"),
        (Literal["a", "b"], "one of a, b"),
        (Annotated[tuple[int, ...], Meta(description="sizes")], "a list, each item a whole number"),
        (dict[str, str], "a mapping from names to values, each value text"),
        (Annotated[int | None, Meta(ge=0)], "a whole number of at least 0"),
    ],
)
def test_a_type_in_words(hint: Any, words: str) -> None:
    assert expected(hint) == words


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_of_the_catalogue_has_words(section: type[msgspec.Struct]) -> None:
    for key, hint in typing.get_type_hints(section, include_extras=True).items():
        words = expected(hint)
        assert not any(sign in words for sign in ("`", "typing.", "<class", "\\d", "msgspec")), (key, words)


class _Inner(msgspec.Struct, forbid_unknown_fields=True):
    count: int
    name: str = ""
    choice: Literal["a", "b"] = "a"
    maybe: str | None = None
    either: int | str = 0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"count": "x"}, "must be a whole number, not text"),
        ({"count": 1, "name": 3}, "must be text, not a whole number"),
        ({"count": 1, "choice": "c"}, "'c' is not one of the allowed values"),
        ({"count": 1, "maybe": [1]}, "must be text, not a list"),
        ({"count": 1, "either": [1]}, "must be a whole number or text, not a list"),
        ({}, "the key 'count' is missing"),
        ([], "must be a mapping, not a list"),
    ],
)
def test_a_message_of_msgspec_in_words(data: Any, words: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(data, _Inner)

    assert in_words(str(caught.value).partition(" - at `")[0]) == words


@pytest.mark.parametrize("text", ["0", "11", "-3", "1e3", "3.0", "\u0663", "", "9" * 5000])
def test_what_is_no_whole_number_between_the_bounds_is_refused_in_words(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="a whole number of at least 1 and of at most 10"):
        whole_number(1, 10)(text)
    assert [whole_number(1, 10)(text) for text in ("1", "10")] == [1, 10]
