from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.catalog.data import DatasetEntry
from jobctl.jobs.core.errors import UserError
from jobctl.prep.shards.format import SourceFile
from jobctl.prep.sources import manifest as manifests
from jobctl.prep.sources.listing import Source, listed_files

ENTRY = DatasetEntry(summary="", license="")


def test_the_manifest_is_sorted_hashed_and_read_back(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text(name)
    made = manifests.make(listed_files([tmp_path], []).sources, workers=2)
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


def test_a_source_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.txt cannot be read: No such file"):
        manifests.make([Source("gone.txt", tmp_path / "gone.txt")], workers=1)
