"""Files of others that jobctl ships: whole, with a licence and a known hash."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep.encode.tokenizers import entry_of
from jobctl.prep.select import language
from jobctl.prep.sources import shipped
from jobctl.prep.sources.shipped import DATA, shipped_file

PAPERS = ("LICENSE", "NOTICE")


def noted() -> dict[str, str]:
    """Return the hash of each file that the notice names."""
    notice = (DATA / "NOTICE").read_text()
    return dict(re.findall(r"^(\S+/\S+) .*?SHA-256 ([0-9a-f]{64})$", notice, re.MULTILINE | re.DOTALL))


def test_the_notice_names_every_file_with_its_hash() -> None:
    files = {str(path.relative_to(DATA)): path for path in DATA.rglob("*") if path.is_file()}
    hashes = {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files.items()
        if path.name not in PAPERS
    }
    assert hashes
    assert noted() == hashes


def test_every_folder_has_its_licence() -> None:
    folders = [path for path in DATA.iterdir() if path.is_dir()]
    assert [folder.name for folder in folders if not (folder / "LICENSE").is_file()] == []
    assert "Modified MIT License" in (DATA / "gpt2/LICENSE").read_text()
    assert "https://creativecommons.org/licenses/by-sa/3.0/" in (DATA / "lid176/LICENSE").read_text()


def test_the_code_asks_for_the_hashes_of_the_notice() -> None:
    entry = entry_of("gpt2")
    asked = {f"{entry.shipped}/{name}": digest for name, digest in entry.sha256.items()}
    assert asked | {language.MODEL: language.MODEL_SHA256} == noted()


def test_a_file_that_is_absent_or_another_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "DATA", tmp_path)
    with pytest.raises(UserError, match="file does not exist"):
        shipped_file("file", "0" * 64)
    (tmp_path / "file").write_bytes(b"changed")
    with pytest.raises(UserError, match="file does not have the SHA-256 0000"):
        shipped_file("file", "0" * 64)
    assert shipped_file("file", hashlib.sha256(b"changed").hexdigest()) == tmp_path / "file"
