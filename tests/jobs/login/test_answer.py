"""The output of the other side, between its marks."""

from __future__ import annotations

import io

import pytest

from jobctl.jobs.login.answer import BEGIN, end_mark, has_begun, read_output


class Drops(io.BytesIO):
    """A pipe that hands out few bytes at a time."""

    def read1(self, size: int | None = -1, /) -> bytes:
        return self.read(1)


@pytest.mark.parametrize("greeting", [b"", b"Welcome!\n\nno line break at the end", b"\0\xff\n"])
def test_a_greeting_is_no_output(greeting: bytes) -> None:
    stream = Drops(greeting + BEGIN + "é\n".encode() + end_mark(7))
    said: list[bytes] = []
    assert has_begun(stream)
    assert (read_output(stream, said.append), b"".join(said)) == (7, "é\n".encode())


def test_without_a_mark_nothing_has_begun() -> None:
    assert not has_begun(io.BytesIO(b"bash: jobctl: command not found\n"))


@pytest.mark.parametrize("rest", [b"", b"\0", b"\0exit 25", b"\0else"])
def test_an_answer_that_breaks_off_has_no_exit_code(rest: bytes) -> None:
    said: list[bytes] = []
    assert read_output(Drops(b"half" + rest), said.append) is None
    assert b"".join(said) == b"half"


def test_a_nul_in_a_text_is_no_end_of_it() -> None:
    """An untrained model writes any byte, also on the line on which the mark follows."""
    for written in (b"a\0b\nc\n", b"\0exit 7", b"\0\0\n\0", b"x\0y"):
        said: list[bytes] = []
        assert read_output(Drops(written + end_mark(3)), said.append) == 3
        assert b"".join(said) == written


def test_an_exit_code_of_255_is_not_taken_for_one_of_ssh() -> None:
    assert read_output(io.BytesIO(end_mark(255)), lambda piece: None) == 255
