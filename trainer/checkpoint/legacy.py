"""Read checkpoints of the older format, which torch's distributed checkpoint wrote.

Such a folder has a pickled table, ``.metadata``, and files ``__RANK_N.distcp``, each a sequence of
``torch.save`` archives. Both are parsed here as data, without torch's readers, into the table of newer
checkpoints. The tensors are then read as raw bytes.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch

from jobctl.trainer.checkpoint import inert_pickle as inert
from jobctl.trainer.checkpoint.integrity import Damaged, OldFileRecord, open_regular, read_small
from jobctl.trainer.checkpoint.table import DTYPE_NAMES, Segment, Table, TensorEntry

METADATA_FILE = ".metadata"
READ_BYTES = 4 << 20
MOST_ENTRY_BYTES = 1 << 20
"""The largest small entry of an archive. Ours have a few hundred bytes."""
LOCAL_HEADER = 30
"""Bytes of a zip entry's own header before its name."""


def damage(folder: Path, files: Mapping[str, OldFileRecord]) -> list[str]:
    """Return one line for each file whose SHA-256 has changed. Each file is read whole."""
    problems = []
    for name, expected in sorted(files.items()):
        try:
            if sha256(folder / name) != expected.sha256:
                problems.append(f"{name}: its checksum does not match")
        except OSError as error:
            problems.append(f"{name}: {error.strerror}")

    return problems


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
        while block := file.read(READ_BYTES):
            digest.update(block)

    return digest.hexdigest()


def read_table(folder: Path) -> Table:
    """Return the table of an older checkpoint. Each segment is the raw bytes inside an archive.

    Raises Damaged if the pickle or an archive is not one that we wrote, and for any name that is not on the
    list.
    """
    return inert.load(  # type: ignore[no-any-return]
        read_small(folder / METADATA_FILE),
        inert.TABLE_NAMES,
        METADATA_FILE,
        lambda metadata: convert_table(folder, metadata),
    )


def convert_table(folder: Path, metadata: inert.Metadata) -> Table:
    """Make a table of the old metadata.

    A wrong record can raise any error; ``inert.load`` turns it into Damaged.
    """
    # The old format keeps the places apart from the chunks. Name and offset join them.
    places: dict[tuple[str, tuple[int, ...]], inert.StorageInfo] = {}
    for index, info in metadata.field("storage_data").items():
        places[index.field("fqn"), inert.integers(index.field("offset"))] = info

    with OpenFiles(folder) as files:
        return Table(
            {
                name: convert_entry(name, entry, places, files)
                for name, entry in metadata.field("state_dict_metadata").items()
            }
        )


def convert_entry(
    name: str,
    entry: inert.TensorMetadata,
    places: Mapping[tuple[str, tuple[int, ...]], inert.StorageInfo],
    files: OpenFiles,
) -> TensorEntry:
    dtype = entry.field("properties").state[0]
    segments = []

    for chunk in entry.field("chunks"):
        offsets = inert.integers(chunk.field("offsets"))
        sizes = inert.integers(chunk.field("sizes"))
        # An empty shard has an archive too, with nothing in it to read.
        if 0 in sizes:
            continue

        info = places[name, offsets]
        file = info.field("relative_path")
        archive = Window(files[file], info.field("offset"), info.field("length"))
        begin, end = locate_tensor(archive, file, dtype, sizes)
        segments.append(Segment(file, begin, end, offsets, sizes))

    return TensorEntry(DTYPE_NAMES[dtype], inert.integers(entry.field("size")), tuple(segments))


class OpenFiles:
    """The data files of a folder, each opened once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, BinaryIO] = {}

    def __getitem__(self, name: str) -> BinaryIO:
        if name not in self.files:
            # The name comes from the file, and must not lead to another folder.
            if name != Path(name).name:
                raise Damaged([f"{METADATA_FILE}: {name!r} is no name of a file beside it"])

            with open_regular(self.folder / name) as descriptor:
                # A second descriptor, because the first one is closed at the end of this block.
                self.files[name] = open(os.dup(descriptor), "rb")  # noqa: SIM115 - closed by __exit__

        return self.files[name]

    def __enter__(self) -> OpenFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.files.values():
            file.close()


class Window(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, file: BinaryIO, begin: int, length: int) -> None:
        self.file = file
        self.begin = begin
        self.length = length
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.length}[whence]
        if base + offset < 0:
            raise ValueError("a position before the beginning")

        self.position = base + offset
        return self.position

    def read(self, count: int | None = -1) -> bytes:
        rest = max(0, self.length - self.position)
        wanted = rest if count is None or count < 0 else min(count, rest)
        # pread moves no position of the file, so several windows can share its descriptor.
        data = os.pread(self.file.fileno(), wanted, self.begin + self.position)
        self.position += len(data)
        return data


def locate_tensor(archive: Window, file: str, dtype: torch.dtype, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the begin and the end, in the file, of the elements of the one tensor in a ``torch.save`` archive."""
    with zipfile.ZipFile(archive) as entries:
        names = entries.namelist()
        # torch.save puts all entries into one folder, whose name differs from file to file.
        folder = names[0].partition("/")[0]
        pickled = read_entry(entries, f"{folder}/data.pkl", file)
        # The elements are read as raw bytes, so the writer's byte order must be ours.
        if f"{folder}/byteorder" in names and read_entry(entries, f"{folder}/byteorder", file) != b"little":
            raise Damaged([f"{file}: it was written by a machine of another byte order"])

        tensor = inert.load(pickled, inert.ARCHIVE_NAMES, file, lambda content: content)
        check_tensor(tensor, file, dtype, shape)
        data = entries.getinfo(f"{folder}/data/{tensor.storage.key}")
        # For the same reason they must not be compressed.
        if data.compress_type != zipfile.ZIP_STORED:
            raise Damaged([f"{file}: a tensor is compressed"])

    # The header of an entry may have other extra fields than the directory at the end of the archive.
    archive.seek(data.header_offset)
    # A zip entry's local header has the lengths of its name and its extra field at bytes 26 and 28.
    header = archive.read(LOCAL_HEADER)
    name_length = int.from_bytes(header[26:28], "little")
    extra_length = int.from_bytes(header[28:30], "little")
    elements = data.header_offset + LOCAL_HEADER + name_length + extra_length

    # The offset of a tensor counts elements of its storage.
    begin = archive.begin + elements + tensor.offset * dtype.itemsize

    return begin, begin + torch.Size(shape).numel() * dtype.itemsize


def read_entry(entries: zipfile.ZipFile, name: str, file: str) -> bytes:
    """Return the content of a small, uncompressed entry. A compressed one could be of any size."""
    info = entries.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > MOST_ENTRY_BYTES:
        raise Damaged([f"{file}: {name} is not an entry that we wrote"])
    return entries.read(info)


def check_tensor(tensor: object, file: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Raise Damaged unless it is a plain tensor of that type and shape, with its elements in order."""
    if not isinstance(tensor, inert.SavedTensor):
        raise Damaged([f"{file}: an archive holds something other than a tensor"])

    elements = torch.Size(shape).numel()
    # A transposed tensor has the same shape, and its bytes would be read in the wrong order.
    in_order = contiguous_stride(shape)
    fits = tensor.offset >= 0 and tensor.offset + elements <= tensor.storage.elements
    strides_agree = all(
        # The stride of a dimension with one element has no meaning, and torch may write any.
        size == 1 or stride == expected
        for size, stride, expected in zip(shape, tensor.stride, in_order, strict=True)
    )
    if tensor.shape != shape or tensor.storage.dtype != dtype or not fits or not strides_agree:
        raise Damaged([f"{file}: a tensor differs from its description in {METADATA_FILE}"])


def contiguous_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the stride of each dimension if the last dimension varies fastest."""
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= size

    return tuple(reversed(strides))
