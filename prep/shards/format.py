"""The token-shard format: raw little-endian tokens in ``*.bin``, and ``meta.json`` that describes them.

A data set is a folder. Its ``*.bin`` files have no header, so ``numpy.memmap`` reads them with the dtype in
``meta.json``. A split ("train", "val") is the sequence of its shards, in the order of ``meta.json``. A
document ends with its EOS. Nothing is ever unpickled: ``meta.pkl`` is written for older readers and never
read.
"""

from __future__ import annotations

import bisect
import ctypes
import hashlib
import itertools
import os
import pickle
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from jobctl.jobs.core.durable import partial_path, sync_folder, write_whole
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.jobs.core.names import UnsafeName, inside, parts_of
from jobctl.jobs.core.reading import decode_json, read_regular

META_FILE = "meta.json"
WRITTEN_BACK = 16 << 20
"""Bytes after which the kernel is told to write to the disk."""
BEGIN = 2
WAIT = 7
"""Flags of sync_file_range(2). BEGIN starts to write and does not wait. WAIT writes and waits for the end."""
FORMAT = 1
TokenType = Literal["uint16", "uint32"]
Tokens = npt.NDArray[np.unsignedinteger[Any]]
Ids = npt.NDArray[np.uint32]
"""Token ids as encoders give them, shape [tokens]."""


class NoSplit(UserError):
    """The data set has no split of that name."""


class TokenizerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The tokenizer that made the ids: its name, and the SHA-256 of the file that defines it."""

    name: str
    file: str
    sha256: str


class SourceFile(msgspec.Struct, frozen=True, kw_only=True):
    """A source file of the text. ``path`` is relative to the source folder, ``size`` is in bytes."""

    path: str
    size: int
    sha256: str


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """One ``.bin`` file: its counts, and the SHA-256 of its bytes."""

    file: str
    split: str
    tokens: int
    documents: int
    text_bytes: int
    sha256: str


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """``meta.json``. ``vocab_size`` counts the tokenizer's ids, not the rows of a model's embedding."""

    format: int = FORMAT
    dataset: str
    dtype: TokenType
    vocab_size: int
    tokenizer: TokenizerRecord
    eos_id: int
    bos_id: int | None = None
    documents: int
    tokens: int
    text_bytes: int
    shards: tuple[Shard, ...]
    sources: tuple[SourceFile, ...] = ()
    options: dict[str, Any] = {}
    fingerprint: str = ""


def token_dtype(vocab_size: int) -> TokenType:
    """Return ``uint16`` if every id fits, else ``uint32``."""
    return "uint16" if vocab_size <= 65536 else "uint32"


def numpy_dtype(name: TokenType) -> np.dtype[np.unsignedinteger[Any]]:
    """Return the little-endian dtype of the files. The machine's own order has no influence."""
    return np.dtype(name).newbyteorder("<")


def fingerprint(meta: Meta) -> str:
    """Return the SHA-256 over all of ``meta.json`` except the fingerprint itself: 64 hexadecimal digits."""
    bare = msgspec.structs.replace(meta, fingerprint="")
    # Sorted, because the options are a dict whose order has no meaning.
    return hashlib.sha256(msgspec.json.encode(bare, order="sorted")).hexdigest()


# -- writing -------------------------------------------------------------------------------------------------


class WriteBack:
    """Make the kernel write a file to the disk while it grows.

    The fsync at the end then has little to wait for. The kernel also frees the memory of written bytes, so
    that a shard takes only a few megabytes. On a system without these calls fsync does all of the work.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._begun = 0
        self._forgotten = 0
        self._call: Any = getattr(ctypes.CDLL(None), "sync_file_range", None)

    def grown(self, size: int) -> None:
        """Note that the file has ``size`` bytes now."""
        if not self._call or size - self._begun < WRITTEN_BACK:
            return

        file = self._file.fileno()
        # Wait only for the bytes before the last ones: their write began one step ago, and is mostly done.
        before = self._begun - self._forgotten
        if before:
            self._sync(file, self._forgotten, before, WAIT)
            os.posix_fadvise(file, self._forgotten, before, os.POSIX_FADV_DONTNEED)

        self._sync(file, self._begun, size - self._begun, BEGIN)
        self._forgotten = self._begun
        self._begun = size

    def _sync(self, file: int, start: int, count: int, flags: int) -> None:
        self._call(file, ctypes.c_int64(start), ctypes.c_int64(count), ctypes.c_uint(flags))


def checked(ids: npt.ArrayLike, vocab_size: int, name: str) -> Tokens:
    """Return ids, shape [n], in the type of the file. Raises UserError for an id outside the vocabulary."""
    array = np.asarray(ids)
    if array.size:
        # This is checked before the conversion: numpy would wrap a too large id to another one.
        low = 0 if array.dtype.kind == "u" else int(array.min())
        high = int(array.max())
        if low < 0 or high >= vocab_size:
            wrong = low if low < 0 else high
            raise UserError(
                f"{name}: token id {wrong} does not fit a vocabulary of {vocab_size}",
                hint="the tokenizer's files and its catalogue entry disagree; fetch the tokenizer again",
            )

    return np.ascontiguousarray(array, dtype=numpy_dtype(token_dtype(vocab_size)))


class ShardWriter:
    """Write one shard under a temporary name. ``close`` makes it durable, renames it and returns its record.

    As a context manager it closes at the end of the block. If the block raises, it leaves nothing behind.
    """

    def __init__(self, path: Path, *, split: str, vocab_size: int) -> None:
        self.path = path
        self.split = split
        self.vocab_size = vocab_size
        self.dtype = numpy_dtype(token_dtype(vocab_size))
        self.tokens = 0
        self.documents = 0
        self.text_bytes = 0
        self.record: Shard | None = None
        self._digest = hashlib.sha256()
        self._temporary = partial_path(path)
        self._file = open(self._temporary, "wb")  # noqa: SIM115 - closed by close or discard
        self._write_back = WriteBack(self._file)

    def write(self, ids: npt.ArrayLike, *, documents: int = 1, text_bytes: int = 0) -> None:
        """Append ids, shape [n]. Raises UserError for an id that the vocabulary does not have."""
        data = checked(ids, self.vocab_size, self.path.name)
        self._file.write(data.data)
        self._digest.update(data.data)
        self.tokens += data.size
        self._write_back.grown(self.tokens * data.itemsize)
        self.documents += documents
        self.text_bytes += text_bytes

    def finish(self) -> None:
        """Make the written bytes durable, still under the temporary name."""
        # A series finishes a shard early and closes it later, which comes here a second time.
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def close(self) -> Shard:
        """Make the shard durable under its own name, ``path``."""
        if self.record is None:
            # The bytes are durable before the name, and the name before the record that counts the shard.
            self.finish()
            os.replace(self._temporary, self.path)
            sync_folder(self.path.parent)
            self.record = Shard(
                file=self.path.name,
                split=self.split,
                tokens=self.tokens,
                documents=self.documents,
                text_bytes=self.text_bytes,
                sha256=self._digest.hexdigest(),
            )

        return self.record

    def discard(self) -> None:
        """Remove the bytes written so far. A closed shard stays."""
        try:
            self._file.close()
        finally:
            # Closing flushes, which fails again on a full disk.
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.discard()


def write_meta(folder: Path, meta: Meta) -> Meta:
    """Write ``meta.json`` and return it with its fingerprint.

    Call it last: the file marks the data set as whole.
    """
    meta = msgspec.structs.replace(meta, fingerprint=fingerprint(meta))
    # Programs of nanoGPT's kind read these facts from `meta.pkl`.
    older = {
        "vocab_size": meta.vocab_size,
        "dtype": meta.dtype,
        "tokenizer": meta.tokenizer.name,
        "eos_token_id": meta.eos_id,
        "bos_token_id": meta.bos_id,
    }

    # Protocol 2 is read by every Python that such a reader may use.
    write_whole(folder / "meta.pkl", pickle.dumps(older, protocol=2))
    # It is written last, because this file marks the data set as whole.
    write_whole(folder / META_FILE, msgspec.json.format(msgspec.json.encode(meta), indent=1) + b"\n")

    return meta


# -- reading -------------------------------------------------------------------------------------------------


def read_meta(folder: Path) -> Meta:
    """Read and check ``meta.json``. Raises UserError that names the fault."""
    path = folder / META_FILE
    prepare = "prepare it with: jobctl submit prep --dataset NAME --tokenizer NAME"
    try:
        data = read_regular(path)
    except FileNotFoundError:
        problem = "has no meta.json, so it was not prepared to the end"
        if not folder.is_dir():
            problem = "does not exist"

        raise UserError(f"data set {folder} {problem}", hint=prepare) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None

    try:
        meta = decode_json(data, Meta)
    except msgspec.DecodeError as error:
        raise UserError(f"{path} is not a data set's meta.json: {error}", hint=prepare) from None

    if meta.format != FORMAT:
        raise UserError(
            f"{path} is of format {meta.format}; this version reads format {FORMAT}", hint=prepare
        )

    if meta.fingerprint != fingerprint(meta):
        raise UserError(
            f"{path} was changed after it was written: its fingerprint does not match", hint=prepare
        )

    # A wrong type would be read without an error, as other ids.
    if meta.dtype == "uint16" and token_dtype(meta.vocab_size) != "uint16":
        raise UserError(f"{path}: {meta.dtype} is not the type for {meta.vocab_size} ids", hint=prepare)

    # The names become paths, and the data set may come from another user.
    try:
        for name in (*(shard.file for shard in meta.shards), meta.tokenizer.name, meta.tokenizer.file):
            parts_of(name)
    except UnsafeName as error:
        raise UserError(f"{path} cannot be trusted: {error.message}", hint=prepare) from None

    return meta


def check_size(folder: Path, shard: Shard, dtype: TokenType) -> None:
    """Raise UserError if the file is absent, or if its length is not that of ``meta.json``."""
    path = inside(folder, shard.file)
    expected = shard.tokens * np.dtype(dtype).itemsize
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"shard {path} cannot be read: {error.strerror}") from None

    if size != expected:
        kind = "truncated" if size < expected else "too long"
        raise UserError(
            f"shard {path} is {kind}: {size} bytes, meta.json says {expected}",
            hint=f"find out what else is wrong with: python -m jobctl.prep.verify {folder}",
        )


class TokenDataset:
    """The tokens of one split, read through memory maps. Each map is opened at its first use."""

    def __init__(self, folder: Path, meta: Meta, split: str) -> None:
        self.folder = folder
        self.meta = meta
        self.split = split
        # numpy cannot map an empty file.
        self.shards = tuple(shard for shard in meta.shards if shard.split == split and shard.tokens)
        self._ends = list(itertools.accumulate(shard.tokens for shard in self.shards))
        self._maps: dict[int, Tokens] = {}

    @property
    def num_tokens(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _map(self, index: int) -> Tokens:
        if index not in self._maps:
            path = inside(self.folder, self.shards[index].file)
            dtype = numpy_dtype(self.meta.dtype)
            try:
                self._maps[index] = np.memmap(path, dtype=dtype, mode="r", shape=(self.shards[index].tokens,))
            except (OSError, ValueError) as error:
                raise UserError(f"shard {path} cannot be read: {error}") from None

        return self._maps[index]

    def read(self, start: int, count: int) -> Tokens:
        """Return tokens [start, start + count) of the split as a new array of ``meta.dtype``, shape [count].

        Raises IndexError if the range leaves the split.
        """
        stop = start + count
        if start < 0 or count < 0 or stop > self.num_tokens:
            raise IndexError(f"tokens {start} to {stop} of a split of {self.num_tokens}")

        out = np.empty(count, dtype=self.meta.dtype)
        # The first shard that ends behind ``start``.
        index = bisect.bisect_right(self._ends, start)
        position = start

        while position < stop:
            begin = self._ends[index] - self.shards[index].tokens
            end = min(stop, self._ends[index])
            out[position - start : end - start] = self._map(index)[position - begin : end - begin]
            position = end
            index = index + 1

        return out

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the maps: pickled maps would be copies of the data. A worker process opens its own."""
        return {**self.__dict__, "_maps": {}}


def open_dataset(path: Path, split: str = "train") -> TokenDataset:
    """Open a split of the data set in ``path``, with the checks that cost no reading of tokens.

    Raises UserError that names the file if ``meta.json`` is absent, damaged or of another format, if a shard
    is absent or of another size, and if the split is absent or empty.
    """
    path = Path(path)
    meta = read_meta(path)
    splits = {shard.split for shard in meta.shards}
    if split not in splits:
        raise NoSplit(f"data set {path} has no split '{split}'", hint=nearest(split, splits))

    dataset = TokenDataset(path, meta, split)
    if not dataset.num_tokens:
        raise UserError(f"split '{split}' of data set {path} is empty", hint="prepare it from more documents")

    for shard in dataset.shards:
        check_size(path, shard, meta.dtype)

    return dataset
