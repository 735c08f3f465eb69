from __future__ import annotations

import sys
import unicodedata

from jobctl.prep.encode.identity import identity
from jobctl.prep.encode.look import MARK_LEADS, look
from tests.prep.encode.real import english, torture_set


def test_ascii_takes_in_only_the_marks_that_are_looked_for() -> None:
    """So a rest without them that is in NFC stays so with ASCII in between."""
    everything = (chr(number) for number in range(sys.maxunicode + 1) if not 0xD800 <= number < 0xE000)
    pairs = [unicodedata.decomposition(character).split() for character in everything]
    canonical = [pair for pair in pairs if len(pair) == 2 and not pair[0].startswith("<")]
    seconds = {chr(int(second, 16)) for first, second in canonical if int(first, 16) < 128}
    assert len(seconds) > 20
    assert all(second.encode()[:1] in MARK_LEADS for second in seconds)


def test_the_fast_check_says_what_pythons_says() -> None:
    texts = [*torture_set()[:3000], *english()[:3]]
    marks = ["\u0301", "\u0338", "\u0316\u0301", "\u0301\u0316", "\u3099", "\u1161", "\u05b0", "\u2126"]
    texts += [
        before + mark + "b"
        for before in ("a", "\u00e9", "=", "\u2019a", "\u304b", "\u1100")
        for mark in marks
    ]
    texts = [f"{text}, and much more that is ASCII: {'word ' * len(text)}" for text in texts]
    for text in texts:
        assert look(text).is_nfc == unicodedata.is_normalized("NFC", text)


def test_a_text_that_is_called_its_own_identity_is_that() -> None:
    texts = [*torture_set()[:3000], *english()[:3], "a\u2581b", "caf\u00e9", "cafe\u0301"]
    assert all(identity(text) == text for text in texts if look(text).is_identity)
    assert [look(text).is_identity for text in texts[-3:]] == [False, True, False]


def test_a_look_has_the_utf8_and_finds_new_characters_beside_any_other() -> None:
    for text, has_new in [("plain", False), ("caf\xe9", False), ("a \U00011de0", True), ("\u088f's", True)]:
        assert look(text).data == text.encode()
        assert look(text).has_new == look(f"\u4e00{text}\U0001f642 and more").has_new == has_new
