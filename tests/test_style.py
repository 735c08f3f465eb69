"""How the code reads, in figures. A limit only ever becomes stricter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import style
from tests.style import Counts, Style

pytestmark = pytest.mark.xdist_group("style")  # each worker would read the code anew


@pytest.fixture(scope="module")
def figures() -> Style:
    return style.measure()


def counted(tmp_path: Path, text: str) -> Counts:
    path = tmp_path / "module.py"
    path.write_text(text)
    counts = Counts()
    counts.read(path, "module.py")
    return counts


def test_no_file_is_two_rooms_in_one(figures: Style) -> None:
    assert figures.long_files == ()


def test_functions_need_no_scrolling(figures: Style) -> None:
    assert figures.long_functions == ()


def test_the_code_does_not_become_denser(figures: Style) -> None:
    assert figures.blank_in_functions >= 10
    assert figures.comments >= 2.1
    assert figures.packed_assignments <= 0.1
    assert figures.empty_names <= 1
    assert figures.formatter_off == 0


def test_modules_have_their_test_at_the_mirrored_place(figures: Style) -> None:
    assert figures.not_mirrored == ()


def test_no_room_is_called_by_what_it_does_not_say() -> None:
    empty = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
    assert [path for path in style.modules() if empty & {*path.parts, path.stem}] == []


def test_packed_assignments_are_counted(tmp_path: Path) -> None:
    counts = counted(tmp_path, "a, b = 1, 2\nc = d = 3\ne, f = divmod(7, 2)\ng = 4\n")
    assert counts.packed == 2


def test_blank_lines_are_counted_inside_functions_only(tmp_path: Path) -> None:
    counts = counted(
        tmp_path, 'def f():\n    """Doc.\n\n    More."""\n    a = 1\n\n    return a\n\n\nb = 2\n'
    )
    assert counts.body_lines == 3
    assert counts.body_blank_lines == 1


def test_names_that_say_nothing_are_counted(tmp_path: Path) -> None:
    counts = counted(tmp_path, "found = 1\nrun_name = found\n")
    assert counts.names == 2
    assert counts.empty_names == 1


def test_comments_are_counted_and_directives_are_not(tmp_path: Path) -> None:
    counts = counted(tmp_path, "# a reason\nx = [1]  # fmt: skip\ny = 2  # type: ignore[misc]\n")
    assert counts.comments == 1
    assert counts.formatter_off == 1


def test_a_package_that_is_only_a_docstring_needs_no_test() -> None:
    assert not style.needs_mirror(Path("jobs/__init__.py"))
    assert style.needs_mirror(Path("jobs/render.py"))


def test_the_report_names_every_figure(figures: Style) -> None:
    text = style.report(figures)
    assert "blank lines inside functions" in text
    assert f"{figures.lines:,}" in text
