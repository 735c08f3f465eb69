"""Nothing that someone else wrote steers the terminal of who reads it."""

from __future__ import annotations

import pytest

from jobctl.jobs.core.text import visible, visible_but_colours


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, é, 国 and 🙂\tin\ntwo lines", "plain, é, 国 and 🙂\tin\ntwo lines"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb\x7f\b", r"a\rb\x7f\x08"),
        ("\u202eexe.\u2066", r"\u202eexe.\u2066"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_would_steer_a_terminal_is_shown_as_its_code(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible_but_colours(text) == shown


def test_a_logs_colours_stay_and_end_with_the_line() -> None:
    assert visible_but_colours("\x1b[31mred\x1b[0m, \x1b[2K") == "\x1b[31mred\x1b[0m, \\x1b[2K\x1b[0m"
    assert visible("\x1b[31mred") == r"\x1b[31mred"
