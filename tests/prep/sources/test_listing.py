from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from jobctl.jobs.catalog.data import DatasetEntry
from jobctl.jobs.core.errors import UserError
from jobctl.prep.sources.listing import Source, held_out, listed_files, matches
from jobctl.prep.sources.origins import find

ENTRY = DatasetEntry(summary="", license="")


def test_a_folder_is_read_whole_and_in_order_but_for_hidden_and_other_files(tmp_path: Path) -> None:
    for name in ("b/2.jsonl", "b/1.jsonl", "a.txt", ".hidden/x.txt", ".x.txt", "c.xls"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [source.name for source in listed_files([tmp_path], []).sources] == [
        "a.txt",
        "b/1.jsonl",
        "b/2.jsonl",
    ]
    assert [source.name for source in listed_files([tmp_path], ["b/*"]).sources] == ["b/1.jsonl", "b/2.jsonl"]


def test_a_link_that_leads_nowhere_and_a_name_that_is_not_utf8_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(UserError, match=r"a\.txt is a link to nothing"):
        listed_files([tmp_path], [])
    (tmp_path / "a.txt").unlink()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.txt")).write_text("x")
    with pytest.raises(UserError, match="not UTF-8"):
        listed_files([tmp_path], [])


def test_files_of_two_folders_do_not_share_names(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(name)
    sources = listed_files([tmp_path / "one", tmp_path / "two"], []).sources
    assert [source.name for source in sources] == ["one/a.txt", "two/a.txt"]
    with pytest.raises(UserError, match=r"two sources are called a\.txt"):
        listed_files([tmp_path / "one" / "a.txt", tmp_path / "two" / "a.txt"], [])


def skipped_in(folder: Path, patterns: Sequence[str] = ()) -> dict[str, str]:
    """Return why each file or folder is not read, by its path in the folder."""
    listing = listed_files([folder], patterns)
    return {skipped.path.relative_to(folder).as_posix(): skipped.reason for skipped in listing.skipped}


@pytest.mark.parametrize("name", ["a.xlsx", "a.jsonl.br", "a.arrow.gz", "a.parquet.zst", "sub/b.md", "noend"])
def test_a_file_of_another_kind_is_named_unless_patterns_leave_it_out(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / name).write_text("x")
    assert skipped_in(tmp_path) == {name: "not of a kind that prep reads"}
    assert skipped_in(tmp_path, ["*.txt"]) == {}
    assert skipped_in(tmp_path, [f"!{name}"]) == {}
    with pytest.raises(UserError, match=rf"1 of the source files cannot be read: .*{name}: not of a kind"):
        find(tmp_path, "x", ENTRY, [tmp_path])
    assert [source.name for source in find(tmp_path, "x", ENTRY, [tmp_path], True)] == ["a.txt"]


def test_a_linked_folder_is_named_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.txt").write_text("x")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "link").symlink_to(tmp_path / "elsewhere")
    assert skipped_in(tmp_path / "text") == {"link": "a link to a folder; prep does not follow it"}


def test_a_folder_that_cannot_be_entered_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The superuser may enter every folder, so the system's refusal is made."""
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert skipped_in(tmp_path) == {"closed": "Permission denied"}


def test_a_file_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("x")
    with pytest.raises(UserError, match=r"a\.txt is named 2 times"):
        listed_files([tmp_path, tmp_path / "sub"], [])


def test_patterns_leave_out_as_well() -> None:
    assert matches("a/test.txt", ["*.txt"])
    assert not matches("a/test.txt", ["*.txt", "!*test*"])
    assert matches("a/train.txt", ["!*test*"])


def test_names_that_say_test_or_validation_are_told() -> None:
    names = [
        "train/a.txt",
        "test/a.txt",
        "data-validation-0.parquet",
        "contest.txt",
        "latest/b.txt",
        "x.dev.jsonl",
    ]
    sources = [Source(name, Path(name)) for name in names]
    assert held_out(sources, ENTRY) == [names[1], names[2], names[5]]
    entry = msgspec.structs.replace(ENTRY, validation_files=["*validation*"])
    assert held_out(sources, entry) == [names[1], names[5]]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([], ["test/a.txt", "train/a.txt", "valid/a.txt"]),
        (["train/*"], ["train/a.txt", "valid/a.txt"]),
        (["!test/*"], ["train/a.txt", "valid/a.txt"]),
    ],
)
def test_the_sources_own_validation_files_are_read_beside_those_of_the_patterns(
    tmp_path: Path, patterns: list[str], expected: list[str]
) -> None:
    for name in ("test", "train", "valid"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(name)

    entry = msgspec.structs.replace(ENTRY, patterns=patterns, validation_files=["valid/*"])
    assert [source.name for source in find(tmp_path, "x", entry, [tmp_path])] == expected


@pytest.mark.parametrize(
    ("pattern", "said"), [("dev/*", "no file is like dev/"), ("*", "every source file is")]
)
def test_validation_files_that_are_none_or_all_are_an_error(tmp_path: Path, pattern: str, said: str) -> None:
    (tmp_path / "a.txt").write_text("x")
    entry = msgspec.structs.replace(ENTRY, validation_files=[pattern])
    with pytest.raises(UserError, match=f"--validation-files: {said}"):
        find(tmp_path, "x", entry, [tmp_path])


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users, which root alone may")
def test_a_link_that_someone_else_made_does_not_bring_your_files_into_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("private")
    (tmp_path / "texts").mkdir()
    link = tmp_path / "texts" / "a.txt"
    link.symlink_to(tmp_path / "key")
    assert len(listed_files([tmp_path / "texts"], []).sources) == 1
    os.chown(link, 1, 1, follow_symlinks=False)
    with pytest.raises(UserError, match="is a link that daemon made"):
        listed_files([tmp_path / "texts"], [])
