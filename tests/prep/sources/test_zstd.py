"""Frames of Zstandard: the end of the last one is known from the blocks alone."""

from __future__ import annotations

import io
import random

import pytest
import zstandard

from jobctl.prep.sources.zstd import Frames, ZstdFrames

SKIPPED = b"\x5a\x2a\x4d\x18" + (7).to_bytes(4, "little") + b"ignored"
WORDS = " ".join(random.Random(1).choices(["one", "two", "three", "four"], k=200)).encode()


def compressed(data: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(level=3, **options).compress(data)


def streamed(data: bytes) -> bytes:
    """A frame of several blocks that does not say how long its content is."""
    packer = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    flush = zstandard.COMPRESSOBJ_FLUSH_BLOCK
    parts = [packer.compress(data) + packer.flush(flush) for _ in range(3)]
    return b"".join(parts) + packer.flush()


FRAMES = {
    "with its size": compressed(WORDS),
    "without its size": compressed(WORDS, write_content_size=False),
    "with a checksum": compressed(WORDS, write_checksum=True),
    "of one byte repeated": compressed(b"\0" * 300_000),
    "of bytes that do not shrink": compressed(random.Random(2).randbytes(500)),
    "empty": compressed(b""),
    "streamed": streamed(WORDS),
    "skipped": SKIPPED,
    "several": compressed(WORDS) + SKIPPED + streamed(WORDS) + compressed(b""),
}


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_the_end_is_the_end_however_the_bytes_come(name: str, size: int) -> None:
    data = FRAMES[name] * 2
    frames = Frames()
    for begin in range(0, len(data), size):
        frames.see(data[begin : begin + size])
    assert frames.is_whole


@pytest.mark.parametrize("name", FRAMES)
def test_a_cut_at_every_byte_is_an_error_unless_a_frame_ends_there(name: str) -> None:
    first = FRAMES["with its size"]
    data = first + FRAMES[name]
    ends = {len(first), len(data)}
    if name == "several":
        parts = [compressed(WORDS), SKIPPED, streamed(WORDS), compressed(b"")]
        ends |= {len(first) + sum(map(len, parts[:count])) for count in range(1, 4)}
    for cut in range(1, len(data) + 1):
        stream = ZstdFrames(io.BytesIO(data[:cut]))
        if cut in ends:
            assert stream.read(1 << 20).startswith(WORDS)
            continue

        with pytest.raises((EOFError, zstandard.ZstdError)):
            stream.read(1 << 20)


def test_no_read_gives_more_than_it_was_asked_for() -> None:
    """A small file may hold gigabytes of one byte."""
    stream = ZstdFrames(io.BytesIO(compressed(b"\0" * 3_000_000)))
    assert [len(stream.read(1_000_000)) for _ in range(5)] == [1_000_000] * 3 + [0, 0]
