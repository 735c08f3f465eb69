"""A recipe is read as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recipes.recipe import Change, Command, File, section, steps

TEXT = """# Contributing

## A first

Words.

1. Write it:

   ```yaml
   # a/b.yaml
   summary: one
   settings:
     seed: 1
   ```

2. Change it:

   ```diff
   # a/c.py
    x = 1
   +y = 2
   -z = 3
   ```

   ```console
   $ jobctl show b
   summary: one
   …
   $ jobctl other
   ```

## Another
"""


def test_the_steps_are_in_the_order_of_the_text() -> None:
    assert steps(section("A first", TEXT)) == [
        File("a/b.yaml", "summary: one\nsettings:\n  seed: 1\n"),
        Change("a/c.py", (" x = 1", "+y = 2", "-z = 3")),
        Command("jobctl show b", ("summary: one",)),
        Command("jobctl other", ()),
    ]


def test_a_section_ends_with_the_next_heading() -> None:
    assert "Words." in section("A first", TEXT)
    assert "Another" not in section("A first", TEXT)
    with pytest.raises(ValueError, match="no recipe 'A third'"):
        section("A third", TEXT)


def test_a_block_without_a_path_is_refused() -> None:
    with pytest.raises(ValueError, match="begins with '# ' and the path"):
        steps("```python\nimport os\n```\n")


def test_a_change_finds_its_lines_and_keeps_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "c.py"
    file.write_text("a = 1\nif a:\n    x = 1\nz = 3\n")
    Change("c.py", (" x = 1", "+    y = 2", "-z = 3", "+z = 4")).follow(tmp_path)
    assert file.read_text() == "a = 1\nif a:\n    x = 1\n    y = 2\nz = 4\n"


@pytest.mark.parametrize(("text", "count"), [("a = 1\n", 0), ("x = 1\nx = 1\n", 2)])
def test_a_change_of_a_line_that_is_not_there_once_is_refused(tmp_path: Path, text: str, count: int) -> None:
    (tmp_path / "c.py").write_text(text)
    with pytest.raises(ValueError, match=f"c.py has {count} lines 'x = 1'"):
        Change("c.py", (" x = 1", "+y = 2")).follow(tmp_path)


def test_output_is_compared_without_regard_to_columns() -> None:
    command = Command("c", ("key value", "other"))
    assert command.missing("key      value   flag\nother\n") == []
    assert command.missing("key\nvalue\n") == ["key value", "other"]
