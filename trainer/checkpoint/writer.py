"""Write a rank's files of a checkpoint, several at the same time.

Each byte is hashed on its way to the disk.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import xxhash

from jobctl.jobs.core.durable import sync_folder
from jobctl.trainer.checkpoint.buffers import PIECE_BYTES
from jobctl.trainer.checkpoint.plan import Rows, file_header
from jobctl.trainer.checkpoint.table import Segment

BEGIN_WRITING = 2
"""SYNC_FILE_RANGE_WRITE of sync_file_range(2): begin to write, and do not wait."""

Source = Callable[[Rows], Iterable[memoryview]]
"""A function that returns the bytes of some rows, in order, in pieces of any size."""

sync_file_range: Any = getattr(ctypes.CDLL(None), "sync_file_range", None)


def write_files(
    folder: Path, rank: int, files: Sequence[Sequence[Rows]], source: Source
) -> list[tuple[str, Segment]]:
    """Write this rank's files into ``folder`` at the same time, and make them durable.

    Return each segment with the name of its tensor. Raises OSError if the disk is full or away.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / file_name(rank, stream) for stream in range(len(files))]

    with ThreadPoolExecutor(max(1, len(files)), thread_name_prefix="checkpoint-writer") as writers:
        # The list waits for all files, and raises the first error among them.
        written = list(writers.map(lambda path, rows: write_file(path, rows, source), paths, files))

    # Each node makes its own entries durable, because rank 0 may be on another node.
    sync_folder(folder)

    return [segment for segments in written for segment in segments]


def file_name(rank: int, stream: int) -> str:
    return f"rank-{rank:05d}-{stream:02d}.safetensors"


def write_file(path: Path, rows: Sequence[Rows], source: Source) -> list[tuple[str, Segment]]:
    """Write one safetensors file in one pass, durable on return."""
    header = file_header(rows)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)

    try:
        write_all(descriptor, memoryview(header), 0)
        position = len(header)
        segments = []

        for block in rows:
            begin = position
            digest = xxhash.xxh3_128()
            # Hashed from memory on the way out: reading the file again would find a wrong byte as it is.
            for piece in cut(source(block)):
                digest.update(piece)
                write_all(descriptor, piece, position)
                begin_write_back(descriptor, position, len(piece))
                position += len(piece)

            segment = Segment(path.name, begin, position, block.offsets, block.sizes, digest.hexdigest())
            segments.append((block.name, segment))

        # The rename of the folder comes later. It must not name bytes that a crash can still lose.
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

    return segments


def cut(pieces: Iterable[memoryview]) -> Iterable[memoryview]:
    """Yield the same bytes in pieces of at most ``PIECE_BYTES``."""
    for piece in pieces:
        for begin in range(0, len(piece), PIECE_BYTES):
            yield piece[begin : begin + PIECE_BYTES]


def write_all(descriptor: int, data: memoryview, position: int) -> None:
    """Write ``data`` at ``position``. One system call may take only a part of it."""
    while data:
        written = os.pwrite(descriptor, data, position)
        data = data[written:]
        position += written


def begin_write_back(descriptor: int, begin: int, count: int) -> None:
    """Ask the kernel to write these bytes to the disk now, so that fsync has little to wait for.

    The pages stay in memory, and a restart on this node reads them from there. It is only a hint, so its
    failure is ignored.
    """
    if sync_file_range:
        sync_file_range(descriptor, ctypes.c_int64(begin), ctypes.c_int64(count), BEGIN_WRITING)
