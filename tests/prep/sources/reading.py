"""Read a file as prep does."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
from pathlib import Path

import pyarrow
import zstandard

from jobctl.jobs.catalog.data import DatasetEntry
from jobctl.prep.shards.format import SourceFile
from jobctl.prep.sources.batches import Broken, Piece
from jobctl.prep.sources.documents import read
from jobctl.prep.sources.listing import Source
from tests.prep.conftest import some_texts

TEXTS = [*some_texts(200), "a\n\nb", "x" * 100_000, "é", "", "\u0000\u001f", "<|endoftext|>"]
ENTRY = DatasetEntry(summary="test", license="none")


def described(path: Path) -> SourceFile:
    data = path.read_bytes()
    return SourceFile(path=path.name, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def texts_of(
    path: Path, entry: DatasetEntry = ENTRY, piece: Piece | None = None
) -> tuple[list[str], list[Broken]]:
    broken: list[Broken] = []
    piece = piece or Piece(Source(path.name, path))
    batches = read(piece, entry, described(path), broken.append, lambda size: None)
    return [text for batch in batches for text in batch.texts], broken


def lz4(data: bytes) -> bytes:
    """Two frames, as the reader of an appended file meets them."""
    codec = pyarrow.Codec("lz4")
    half = len(data) // 2
    return bytes(codec.compress(data[:half], asbytes=True) + codec.compress(data[half:], asbytes=True))


PACK = {".lz4": lz4, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


def write(path: Path, data: bytes) -> Path:
    if path.suffix in (".zst", ".zstd"):  # two frames: such files are often appended to
        packer, half = zstandard.ZstdCompressor(), len(data) // 2
        data = packer.compress(data[:half]) + packer.compress(data[half:])
    elif path.suffix in PACK:
        data = PACK[path.suffix](data)
    path.write_bytes(data)
    return path
