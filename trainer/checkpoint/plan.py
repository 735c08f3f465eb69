"""Who writes what: the rows of each tensor that a rank writes, and their order in its files. Pure."""

from __future__ import annotations

import dataclasses
import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch.distributed.tensor import DTensor, Shard

from jobctl.trainer.checkpoint.table import DTYPE_NAMES, row_bytes, row_count

SEGMENT_BYTES = 256 << 20
"""A larger block of rows is cut: each piece has a checksum, and is read where it is needed."""
LEAST_FILE_BYTES = 64 << 20
"""A file is worth a stream of its own from so many bytes on."""
HEADER_ALIGNMENT = 4096
"""Tensor data begin on a page of the file."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows ``start`` to ``stop`` of a tensor: what one segment of a file holds."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    """Of the whole tensor."""
    start: int
    stop: int

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.stop - self.start, *self.shape[1:]) if self.shape else ()

    @property
    def offsets(self) -> tuple[int, ...]:
        return (self.start, *(0 for _ in self.shape[1:])) if self.shape else ()

    @property
    def bytes(self) -> int:
        return (self.stop - self.start) * row_bytes(self.shape, self.dtype)

    @property
    def label(self) -> str:
        """Its name among the tensors of a safetensors file."""
        whole = self.stop - self.start == row_count(self.shape)
        return self.name if whole else f"{self.name}[{self.start}:{self.stop}]"


def local_rows(tensor: torch.Tensor) -> tuple[int, int]:
    """First and last row (exclusive) that this rank holds; all of them where the tensor is not sharded.

    Shards are those of ``torch.chunk``, also where the rows do not divide by the ranks. Raises
    NotImplementedError for any layout but one dimension of ranks that share the rows.
    """
    if not isinstance(tensor, DTensor):
        return 0, row_count(tensor.shape)

    mesh = tensor.device_mesh
    if mesh.ndim != 1 or tuple(tensor.placements) != (Shard(0),):
        raise NotImplementedError(f"no checkpoint of a tensor laid out as {tensor.placements} over {mesh}")

    rows = tensor.shape[0]
    share = -(-rows // mesh.size())
    start = min(rows, mesh.get_local_rank() * share)
    stop = min(rows, start + share)

    if tensor.to_local().shape[0] != stop - start:
        raise NotImplementedError(f"this rank holds {tensor.to_local().shape[0]} rows, not {stop - start}")

    return start, stop


def segments(name: str, tensor: torch.Tensor, start: int, stop: int) -> Iterator[Rows]:
    """The rows ``start`` to ``stop``, cut into pieces of at most ``SEGMENT_BYTES`` (one row at least)."""
    shape = tuple(tensor.shape)
    size = max(1, row_bytes(shape, tensor.dtype))
    step = max(1, SEGMENT_BYTES // size)

    for begin in range(start, stop, step):
        yield Rows(name, tensor.dtype, shape, begin, min(stop, begin + step))


def share_of_rank(tensors: Mapping[str, torch.Tensor], rank: int, ranks: int) -> list[Rows]:
    """What this rank writes: its shards, and its share of what all ranks hold.

    ``tensors`` have the same names, types and shapes on every rank, so all of them divide alike.
    """
    load = [0] * ranks
    share: list[Rows] = []

    for name, tensor in tensors.items():
        pieces = segments(name, tensor, *local_rows(tensor))
        if isinstance(tensor, DTensor):
            share += pieces
            continue

        # By pieces, not by tensors: one huge embedding is written by several ranks.
        for piece in pieces:
            writer = load.index(min(load))
            load[writer] += piece.bytes
            if writer == rank:
                share.append(piece)

    return [piece for piece in share if piece.bytes]


def divide_into_files(share: Iterable[Rows], streams: int) -> list[list[Rows]]:
    """The rows of each of a rank's files, of about the same size, in the order in which they are written.

    There are ``streams`` files, or fewer where little is to be written. Types of more bytes come first, so
    that every tensor begins on a multiple of its own size.
    """
    pieces = list(share)
    total = sum(piece.bytes for piece in pieces)
    count = max(1, min(streams, total // LEAST_FILE_BYTES))

    files: list[list[Rows]] = [[] for _ in range(count)]
    lightest = [(0, index) for index in range(count)]

    for piece in sorted(pieces, key=lambda piece: -piece.bytes):
        load, index = heapq.heappop(lightest)
        files[index].append(piece)
        heapq.heappush(lightest, (load + piece.bytes, index))

    # Largest first filled the files evenly; within a file the order is that of types and names.
    for file in files:
        file.sort(key=lambda piece: (-piece.dtype.itemsize, piece.name, piece.start))

    return [file for file in files if file]


def file_header(rows: Sequence[Rows]) -> bytes:
    """The header of a safetensors file: its length in eight bytes, and JSON, filled up with blanks."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0

    for piece in rows:
        end = position + piece.bytes
        entries[piece.label] = {
            "dtype": DTYPE_NAMES[piece.dtype],
            "shape": list(piece.sizes),
            "data_offsets": [position, end],
        }

        position = end

    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % HEADER_ALIGNMENT)

    return len(text).to_bytes(8, "little") + text
