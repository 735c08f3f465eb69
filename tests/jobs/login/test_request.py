"""A request comes whole and of the same version, or not at all."""

from __future__ import annotations

import base64
import zlib

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.login.request import Copy, Request, decode, encode

ASKED = Request(
    version="1.2",
    words=("submit", "--run", 'it\'s "a" $(b)\n é'),
    texts={"jobctl.yaml": None, "./site.yaml": "x: é"},
    copy=Copy(run="r", here={"a b": (1, 2)}),
    acts=True,
)


def test_a_request_is_one_word_that_no_shell_changes() -> None:
    word = encode(ASKED)
    assert word.replace(b"-", b"").replace(b"_", b"").rstrip(b"=").isalnum()
    assert decode(word + b"\n", "1.2") == ASKED


def test_a_request_that_came_in_part_is_refused() -> None:
    word = encode(ASKED)
    for length in range(len(word)):
        with pytest.raises(UserError, match="no request of another jobctl"):
            decode(word[:length], "1.2")


def test_another_version_is_named_although_its_requests_have_another_form() -> None:
    word = base64.urlsafe_b64encode(zlib.compress(b'{"version": "9.9", "words": {"new": 1}}'))
    with pytest.raises(UserError, match=r"jobctl is 1\.2 on the login node and 9\.9 on your machine"):
        decode(word, "1.2")


def test_a_request_that_would_fill_the_memory_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobctl.jobs.login.request.MOST_BYTES", 1000)
    with pytest.raises(UserError, match="cut off, or too long"):
        decode(base64.urlsafe_b64encode(zlib.compress(b" " * 10_000)), "1.2")


def test_words_that_are_no_text_are_refused() -> None:
    with pytest.raises(UserError, match="no text"):
        encode(Request(version="1", words=("\udcff",)))
