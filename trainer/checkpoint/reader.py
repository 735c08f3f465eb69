"""Read tensors of a checkpoint. Each byte is read once, and hashed on its way to its place, also on a GPU."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import xxhash

from jobctl.trainer.checkpoint.buffers import PIECE_BYTES, ThreadBuffers
from jobctl.trainer.checkpoint.integrity import open_regular
from jobctl.trainer.checkpoint.plan import local_rows
from jobctl.trainer.checkpoint.table import DTYPES, Segment, Table, TensorEntry
from jobctl.trainer.distributed import local

READERS = 8
"""Segments that are read at the same time."""

posix_fadvise = getattr(os, "posix_fadvise", None)


@dataclasses.dataclass(frozen=True)
class Transfer:
    """A segment, and the part of it that this rank needs."""

    name: str
    segment: Segment
    target: torch.Tensor
    """The bytes of this rank's part of the tensor, flat."""
    first: int
    """The first byte of the segment that is needed."""
    count: int
    """The number of bytes that are needed."""
    position: int
    """The place in ``target`` of the first one."""


def read_tensors_into(
    folder: Path,
    table: Table,
    tensors: Mapping[str, torch.Tensor],
    beat: Callable[[], None] = lambda: None,
) -> list[str]:
    """Fill this rank's part of ``tensors``, sharded or not, from the segments that overlap it.

    ``tensors`` must be in the table, with the same shapes. Another type is converted. ``beat`` is called for
    each piece that was read. Return one line for each segment that is damaged.
    """
    transfers: list[Transfer] = []
    converted: list[tuple[torch.Tensor, torch.Tensor]] = []

    for name, tensor in tensors.items():
        entry = table.tensors[name]
        start, stop = local_rows(tensor)
        part = local(tensor.detach())
        target = part

        # Raw bytes can be read only into the same type in the same order. Anything else is read aside and
        # then copied.
        if part.dtype != DTYPES[entry.dtype] or not part.is_contiguous():
            target = torch.empty(part.shape, dtype=DTYPES[entry.dtype], device=part.device)
            converted.append((part, target))

        transfers += overlapping(name, entry, target, start, stop)

    # Neighbours in this order are in different files, which may be on different disks.
    transfers.sort(key=lambda transfer: (transfer.segment.begin, transfer.segment.file))
    on_gpu = [transfer.target.device for transfer in transfers if transfer.target.is_cuda]
    buffers = ThreadBuffers(on_gpu[0] if on_gpu else torch.device("cpu"))

    with ThreadPoolExecutor(READERS, thread_name_prefix="checkpoint-reader") as readers:
        problems = list(readers.map(lambda transfer: carry_out(folder, transfer, buffers, beat), transfers))

    # Only after all segments are read, of which a tensor may have several.
    for part, target in converted:
        part.copy_(target)

    return [problem for problem in problems if problem]


def overlapping(
    name: str, entry: TensorEntry, target: torch.Tensor, start: int, stop: int
) -> Iterator[Transfer]:
    """Yield a transfer for each segment with some of the rows ``start`` to ``stop`` that ``target`` holds."""
    # A view of the target, which is contiguous: what is written here is in the tensor.
    flat = target.reshape(-1).view(torch.uint8)

    for segment in entry.segments:
        begin = max(start, segment.first_row)
        end = min(stop, segment.first_row + segment.rows)
        if begin < end:
            yield Transfer(
                name=name,
                segment=segment,
                target=flat,
                first=(begin - segment.first_row) * entry.row_bytes,
                count=(end - begin) * entry.row_bytes,
                position=(begin - start) * entry.row_bytes,
            )


def carry_out(
    folder: Path, transfer: Transfer, buffers: ThreadBuffers, beat: Callable[[], None] = lambda: None
) -> str:
    """Read one segment and copy the needed part. Return its problem, or an empty text.

    The copy is made before the checksum is known. That is safe: after a damaged checkpoint an earlier one
    fills the same tensors, or the load fails.
    """
    segment = transfer.segment
    digest = xxhash.xxh3_128()

    try:
        with open_regular(folder / segment.file) as descriptor:
            begin_reading(descriptor, segment.begin, segment.end - segment.begin)
            # All of the segment is read, even if only a part is needed: its checksum covers all of it.
            for begin in range(segment.begin, segment.end, PIECE_BYTES):
                piece = buffers.buffer[: min(PIECE_BYTES, segment.end - begin)]
                if not read_all(descriptor, piece.numpy().data, begin):
                    return f"{segment.file}: it ends before byte {segment.end}"

                digest.update(piece.numpy().data)
                copy_needed(transfer, piece, begin - segment.begin)
                beat()
    except OSError as error:
        return f"{segment.file}: {error.strerror}"

    # Segments of the older format have no sum. Their files are checked elsewhere.
    if segment.xxh3_128 and digest.hexdigest() != segment.xxh3_128:
        return (
            f"{segment.file}: bytes {segment.begin} to {segment.end} ({transfer.name}): "
            "their checksum does not match"
        )

    return ""


def begin_reading(descriptor: int, begin: int, count: int) -> None:
    """Ask the disk to read these bytes ahead. It is only a hint, and some systems do not have it."""
    if posix_fadvise:
        posix_fadvise(descriptor, begin, count, os.POSIX_FADV_WILLNEED)


def read_all(descriptor: int, buffer: memoryview, position: int) -> bool:
    """Fill ``buffer`` from ``position`` on. Return False if the file is too short."""
    while buffer:
        count = os.preadv(descriptor, [buffer], position)
        if not count:
            return False

        buffer = buffer[count:]
        position += count

    return True


def copy_needed(transfer: Transfer, piece: torch.Tensor, begin: int) -> None:
    """Copy the needed part of ``piece``, which is the segment's bytes from ``begin`` on."""
    low = max(transfer.first, begin)
    high = min(transfer.first + transfer.count, begin + len(piece))

    if low < high:
        position = transfer.position + low - transfer.first
        transfer.target[position : position + high - low].copy_(piece[low - begin : high - begin])
