from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from jobctl.jobs.catalog.data import DatasetEntry
from jobctl.jobs.core.errors import UserError
from jobctl.prep.shards.format import SourceFile
from jobctl.prep.sources import manifest as manifests
from jobctl.prep.sources.listing import Source, listed_files
from jobctl.prep.sources.manifest import Manifest, Part, combined, described, parts

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


@pytest.mark.parametrize("text", [b"{", b'{"files": "\xff"}', b'{"x": ' + b"[" * 200_000])
def test_a_damaged_manifest_is_said(tmp_path: Path, text: bytes) -> None:
    (tmp_path / manifests.FILE).write_bytes(text)
    with pytest.raises(UserError, match="is damaged"):
        manifests.load(tmp_path)


def test_a_manifest_that_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / manifests.FILE)
    with pytest.raises(OSError, match="not a regular file"):
        manifests.load(tmp_path)


def test_a_file_whose_hash_is_known_is_not_read_for_the_manifest(tmp_path: Path) -> None:
    """It is held to it when its text is read."""
    (tmp_path / "a.txt").write_text("text")
    made = manifests.make([Source("a.txt", tmp_path / "a.txt", sha256="ab" * 32)], workers=1)
    assert made.files == (SourceFile(path="a.txt", size=4, sha256="ab" * 32),)


def test_a_source_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.txt cannot be read: No such file"):
        manifests.make([Source("gone.txt", tmp_path / "gone.txt")], workers=1)


def halves(source: Source, size: int) -> Sequence[int]:
    return (0, size // 2, size)


def test_a_large_file_is_read_in_pieces_and_each_has_its_hash(tmp_path: Path) -> None:
    source = Source("a.jsonl", tmp_path / "a.jsonl")
    source.path.write_bytes(b"first second")
    assert parts([source], halves) == [Part(source, (0, 6)), Part(source, (6, 12))]

    made = manifests.make([source], 2, cut=halves)
    digests = (hashlib.sha256(b"first ").hexdigest(), hashlib.sha256(b"second").hexdigest())
    assert made.pieces == {"a.jsonl": digests}
    assert made.files[0].sha256 == hashlib.sha256("".join(digests).encode()).hexdigest()


def test_a_hubs_file_in_pieces_keeps_the_hubs_hash_and_is_held_to_it(tmp_path: Path) -> None:
    right = hashlib.sha256(b"first second").hexdigest()
    source = Source("a.jsonl", tmp_path / "a.jsonl", sha256=right)
    source.path.write_bytes(b"first second")
    made = manifests.make([source], 1, cut=halves)
    assert made.files[0].sha256 == right
    assert len(made.pieces["a.jsonl"]) == 2

    source.path.write_bytes(b"first sEcond")
    with pytest.raises(UserError, match=r"a\.jsonl has other bytes than the hub's list says"):
        manifests.make([source], 1, cut=halves)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("cut", [manifests.whole, halves])
def test_a_file_that_is_changed_in_place_is_seen(tmp_path: Path, cut: manifests.Cut, known: bool) -> None:
    """Also one of the hub's, after the job: its hash is not taken for granted once it was touched."""
    data = b"first second"
    sha256 = hashlib.sha256(data).hexdigest() if known else ""
    source = Source("a.jsonl", tmp_path / "a.jsonl", sha256=sha256)
    source.path.write_bytes(data)
    made = manifests.make([source], 1, cut=cut)

    os.utime(source.path, ns=(1, 1))
    manifests.compare(made, [source])

    source.path.write_bytes(b"first sEcond")
    os.utime(source.path, ns=(2, 2))
    with pytest.raises(UserError, match=r"a\.jsonl changed: other bytes of the same size"):
        manifests.compare(made, [source])


def test_a_file_that_changes_between_its_pieces_is_an_error(tmp_path: Path) -> None:
    source = Source("a.jsonl", tmp_path / "a.jsonl")
    source.path.write_bytes(b"first second")
    first, second = (described(part) for part in parts([source], halves))
    later = msgspec.structs.replace(second, changed=second.changed + 1)
    assert isinstance(combined([source], [first, second]), Manifest)
    with pytest.raises(UserError, match="changed while its hash was taken"):
        combined([source], [first, later])
