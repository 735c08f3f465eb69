"""Source files as streams: reads that fail for a moment, checksums, packed files and what is wrong with them."""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import io
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from jobctl.jobs.core.errors import UserError
from jobctl.prep.sources import files
from jobctl.prep.sources.files import CheckedFile, check_packed, damaged, decompressed, retried, sha256_of

TEXT = b"".join(b"line %d of a text that packs well\n" % number for number in range(5000))


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the pauses between tries instead of making them."""
    made: list[float] = []
    monkeypatch.setattr("jobctl.jobs.core.patience.time.sleep", made.append)
    return made


def failing(times: int, number: int) -> Callable[[], str]:
    """Return an action that raises OSError ``number`` so many times before it answers."""
    calls = iter(range(times))

    def action() -> str:
        if next(calls, None) is not None:
            raise OSError(number, os.strerror(number))
        return "done"

    return action


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET])
def test_a_file_system_that_is_away_for_a_moment_is_asked_again(number: int, pauses: list[float]) -> None:
    assert retried(failing(3, number)) == "done"
    assert pauses == [1.0, 2.0, 4.0]


def test_it_is_not_asked_for_ever(pauses: list[float]) -> None:
    with pytest.raises(OSError, match="Input/output error"):
        retried(failing(100, errno.EIO))

    assert len(pauses) == files.TRIES - 1


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EISDIR])
def test_what_will_not_change_is_not_tried_again(number: int, pauses: list[float]) -> None:
    with pytest.raises(OSError, match=os.strerror(number)):
        retried(failing(1, number))

    assert pauses == []


def test_before_each_further_try_the_file_is_opened_again() -> None:
    opened: list[int] = []

    assert retried(failing(2, errno.ESTALE), lambda: opened.append(1)) == "done"
    assert len(opened) == 2


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT)
    return path


def test_the_checksum_is_of_all_that_was_read(source: Path) -> None:
    sizes: list[int] = []
    with CheckedFile(source, sizes.append) as file:
        assert io.BufferedReader(file).read() == TEXT
        digest = file.sha256

    assert digest == hashlib.sha256(TEXT).hexdigest() == sha256_of(source)
    assert sum(sizes) == len(TEXT)


def test_a_read_goes_on_where_it_failed(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a stale handle the file is opened again at the same byte, and nothing is hashed twice."""

    class Flaky:
        """A file whose every third read fails."""

        reads = 0

        def __init__(self, path: Path) -> None:
            self.file = open(path, "rb", buffering=0)  # noqa: SIM115
            self.close = self.file.close
            self.seek = self.file.seek

        def readinto(self, buffer: Any) -> int:
            Flaky.reads += 1
            if Flaky.reads % 3 == 0:
                raise OSError(errno.ESTALE, "stale")
            return self.file.readinto(buffer)

    monkeypatch.setattr(CheckedFile, "_open", lambda self: Flaky(self.path))
    with CheckedFile(source) as file:
        pieces = iter(lambda: file.read(10_000), b"")
        assert b"".join(pieces) == TEXT  # type: ignore[arg-type]
        assert file.sha256 == hashlib.sha256(TEXT).hexdigest()

    assert Flaky.reads > 6


def test_a_checksum_can_be_of_a_part_alone(source: Path) -> None:
    with CheckedFile(source) as file:
        file.hash_between(1000, 3000)
        file.seek(0)
        file.read_on()
        assert file.sha256 == hashlib.sha256(TEXT[1000:3000]).hexdigest()


def test_a_seek_begins_the_checksum_anew(source: Path) -> None:
    with CheckedFile(source) as file:
        file.read(500)
        file.seek(100)
        assert file.tell() == 100
        file.read_on()
        assert file.sha256 == hashlib.sha256(TEXT[100:]).hexdigest()


def packed_lz4(data: bytes) -> bytes:
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "lz4") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".zst": zstandard.ZstdCompressor().compress,
    ".zstd": zstandard.ZstdCompressor(level=9).compress,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".lz4": packed_lz4,
}


@pytest.mark.parametrize("suffix", PACKED)
def test_every_kind_gives_its_text(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(PACKED[suffix](TEXT))
    check_packed(path, suffix)

    with CheckedFile(path) as file:
        stream = decompressed(file, suffix)  # type: ignore[arg-type]
        pieces = iter(lambda: stream.read(7000), b"")
        assert b"".join(pieces) == TEXT


@pytest.mark.parametrize("suffix", [".zst", ".gz", ".bz2", ".xz", ".lz4"])
def test_two_packed_pieces_make_one_text(tmp_path: Path, suffix: str) -> None:
    """``cat a.gz b.gz`` is one file."""
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(PACKED[suffix](TEXT) + PACKED[suffix](b"the end\n"))

    with CheckedFile(path) as file:
        stream = decompressed(file, suffix)  # type: ignore[arg-type]
        pieces = iter(lambda: stream.read(7000), b"")
        assert b"".join(pieces) == TEXT + b"the end\n"


@pytest.mark.parametrize("suffix", [".zst", ".gz", ".bz2", ".xz"])
def test_a_file_that_was_cut_short_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(PACKED[suffix](TEXT)[:-20])

    with CheckedFile(path) as file:
        stream = decompressed(file, suffix)  # type: ignore[arg-type]
        pieces = iter(lambda: stream.read(7000), b"")
        with pytest.raises(EOFError):
            list(pieces)


@pytest.mark.parametrize(
    ("suffix", "data", "message"),
    [
        (".gz", zstandard.compress(TEXT), r"is not a .gz file: it is packed as .zst"),
        (".zst", TEXT, r"is not a .zst file: it is not packed"),
        (".bz2", b"", r"is not a .bz2 file: it is empty"),
    ],
)
def test_a_file_with_another_files_name_says_what_it_is(
    tmp_path: Path, suffix: str, data: bytes, message: str
) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(data)

    with pytest.raises(UserError, match=message) as raised:
        check_packed(path, suffix)

    assert "--patterns" in (raised.value.hint or "")


def test_a_frame_that_may_be_skipped_may_come_first(tmp_path: Path) -> None:
    """Parallel compressors write one."""
    skippable = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"\0\0\0\0"
    path = tmp_path / "a.txt.zst"
    path.write_bytes(skippable + zstandard.compress(TEXT))
    check_packed(path, ".zst")

    with CheckedFile(path) as file:
        assert files.ZstdFrames(file).read(len(TEXT) + 1) == TEXT  # type: ignore[arg-type]


def test_too_large_a_window_is_not_called_damage() -> None:
    error = damaged(Path("a.zst"), zstandard.ZstdError("Frame requires too much memory for decoding"))

    assert "window of more than 2 GiB" in str(error)
    assert "damaged" not in str(error)
    assert str(damaged(Path("a.zst"), EOFError("cut"))).startswith("source a.zst is damaged: cut\n")
