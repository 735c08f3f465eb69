"""Names from elsewhere become paths inside their folder, or an error that says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.core.names import UnsafeName, inside, parts_of, shown

REFUSED = {
    "../../x": "leads out",
    "a/../../x": "leads out",
    "..": "leads out",
    "/etc/passwd": "absolute",
    "//x": "absolute",
    "": "empty",
    "a//b": "empty",
    "a/": "empty",
    ".": "empty or '.'",
    "a/./b": "empty or '.'",
    "a\0b": "NUL",
    "..\\..\\x": "backslash",
    "C:\\x": "backslash",
    "a" * 256: "longer than 255 bytes",
    "é" * 128: "longer than 255 bytes",
    "/".join("a" * 33): "deeper than 32",
    "/".join("a" * 10_000): "longer than 1024 bytes",
    "\ud800": "no file name can hold",
}


@pytest.mark.parametrize("name", REFUSED, ids=lambda name: ascii(name)[:20])
def test_a_name_that_leaves_its_folder_or_is_no_files_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeName, match=REFUSED[name]):
        parts_of(name)
    with pytest.raises(UnsafeName, match=REFUSED[name]):
        inside(tmp_path, name)


@pytest.mark.parametrize(
    "name", ["a", "a/b/c.bin", "...", "..a/b..", " ", "-rf", "line\nbreak", "é", "\udcff"]
)
def test_an_ordinary_name_is_taken_as_it_is(name: str, tmp_path: Path) -> None:
    assert inside(tmp_path, name) == tmp_path / name


def test_no_part_of_the_path_may_be_a_link_but_the_folder_itself_may(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "folder").symlink_to(tmp_path / "real")
    assert inside(tmp_path / "folder", "file") == tmp_path / "folder" / "file"
    (tmp_path / "real" / "home").symlink_to(Path.home())
    (tmp_path / "real" / "dead").symlink_to(tmp_path / "nowhere")
    for name in ("home", "home/x", "dead"):
        with pytest.raises(UnsafeName, match="is a symbolic link"):
            inside(tmp_path / "folder", name)


def test_a_message_shows_no_control_character_and_no_endless_name() -> None:
    with pytest.raises(UnsafeName) as caught:
        parts_of("\x1b[31m/../" + "x" * 5000)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 200
    assert shown("a\nb") == r"'a\nb'"
