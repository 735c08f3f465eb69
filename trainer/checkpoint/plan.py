"""Divide the tensors: the rows that each rank writes, and their order in its files. Pure."""

from __future__ import annotations

import dataclasses
import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch.distributed.tensor import DTensor, Shard

from jobctl.trainer.checkpoint.table import DTYPE_NAMES, row_bytes, row_count

SEGMENT_BYTES = 256 << 20
"""A larger block of rows is cut into pieces.

Each piece has its own checksum, and a rank reads only the pieces it needs.
"""
LEAST_FILE_BYTES = 64 << 20
"""The smallest file that is worth a stream of its own."""
HEADER_ALIGNMENT = 4096
"""Tensor data begin on a page of the file."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows ``start`` to ``stop`` of a tensor. One segment of a file holds them."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    """The shape of the whole tensor."""
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
        """The name of these rows in a safetensors file."""
        whole = self.stop - self.start == row_count(self.shape)
        return self.name if whole else f"{self.name}[{self.start}:{self.stop}]"


def local_rows(tensor: torch.Tensor) -> tuple[int, int]:
    """Return the first and the last row (exclusive) that this rank holds.

    A tensor without shards has all rows.

    Shards are those of ``torch.chunk``, also if the rows do not divide by the ranks. Raises
    NotImplementedError for any other layout than one dimension of ranks that share the rows.
    """
    if not isinstance(tensor, DTensor):
        return 0, row_count(tensor.shape)

    mesh = tensor.device_mesh
    if mesh.ndim != 1 or tuple(tensor.placements) != (Shard(0),):
        raise NotImplementedError(f"no checkpoint of a tensor laid out as {tensor.placements} over {mesh}")

    # A DTensor gives each rank this many rows, so the last ranks may have fewer or none.
    rows = tensor.shape[0]
    share = -(-rows // mesh.size())
    start = min(rows, mesh.get_local_rank() * share)
    stop = min(rows, start + share)

    # With another division, each rank would write the rows of another.
    if tensor.to_local().shape[0] != stop - start:
        raise NotImplementedError(f"this rank holds {tensor.to_local().shape[0]} rows, not {stop - start}")

    return start, stop


def segments(name: str, tensor: torch.Tensor, start: int, stop: int) -> Iterator[Rows]:
    """Yield the rows ``start`` to ``stop`` in pieces of at most ``SEGMENT_BYTES`` (at least one row)."""
    shape = tuple(tensor.shape)
    size = max(1, row_bytes(shape, tensor.dtype))
    step = max(1, SEGMENT_BYTES // size)

    for begin in range(start, stop, step):
        yield Rows(name, tensor.dtype, shape, begin, min(stop, begin + step))


def share_of_rank(tensors: Mapping[str, torch.Tensor], rank: int, ranks: int) -> list[Rows]:
    """Return the rows that this rank writes: its shards, and its share of the tensors that all ranks hold.

    ``tensors`` have the same names, types and shapes on every rank. So all ranks make the same division, and
    need not talk about it.
    """
    load = [0] * ranks
    share: list[Rows] = []

    for name, tensor in tensors.items():
        pieces = segments(name, tensor, *local_rows(tensor))
        if isinstance(tensor, DTensor):
            share += pieces
            continue

        # Pieces are divided and not tensors, so that several ranks write one huge embedding.
        for piece in pieces:
            # The rank with the least so far gets the piece. All ranks count alike, so all come to the same.
            writer = load.index(min(load))
            load[writer] += piece.bytes
            if writer == rank:
                share.append(piece)

    # A tensor with a dimension of 0 has pieces without bytes, which need no segment.
    return [piece for piece in share if piece.bytes]


def divide_into_files(share: Iterable[Rows], streams: int) -> list[list[Rows]]:
    """Divide a rank's rows into files of about the same size, in the order of writing.

    There are ``streams`` files, or fewer for little data. Types with more bytes come first, so that every
    tensor begins on a multiple of its element size.
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

    # Largest first has filled the files evenly. Within a file the order is by type and name.
    for file in files:
        file.sort(key=lambda piece: (-piece.dtype.itemsize, piece.name, piece.start))

    return [file for file in files if file]


def file_header(rows: Sequence[Rows]) -> bytes:
    """Return the header of a safetensors file: its length in eight bytes, and JSON, padded with blanks."""
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
    # The tensors then begin at an aligned byte.
    text += b" " * (-(len(text) + 8) % HEADER_ALIGNMENT)

    return len(text).to_bytes(8, "little") + text
