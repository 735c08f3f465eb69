"""Read pickles of older checkpoints as plain data.

Nothing that a file names is imported, looked up or called.

A pickle can name any function and make Python call it. Here only the names of an exact list are allowed. Each
stands for a record of ours, which only keeps its arguments. There are two kinds of pickles: the table of
torch's distributed checkpoint, and a tensor in a ``torch.save`` archive.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import torch

from jobctl.trainer.checkpoint.integrity import Damaged


class Sealed(type):
    """A class that cannot be changed. A pickle can set attributes of every class that it names."""

    def __setattr__(cls, name: str, value: object) -> NoReturn:
        raise pickle.UnpicklingError(f"a pickle may not change {cls.__name__}")

    def __delattr__(cls, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"a pickle may not change {cls.__name__}")


class Inert(metaclass=Sealed):
    """An object of the file: its arguments, and its state."""

    def __init__(self, *arguments: object) -> None:
        # Kept and never used: a constructor that does nothing cannot be misused.
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def field(self, name: str) -> Any:
        """Return a field of a dataclass. Raises KeyError or TypeError if the file does not have it."""
        return self.state[name]


class Metadata(Inert):
    """The whole table."""


class TensorMetadata(Inert):
    """Type, size and chunks of a tensor."""


class BytesMetadata(Inert):
    """A value that is not a tensor. We never wrote one."""


class TensorProperties(Inert):
    """Its state is a tuple whose first element is the type."""


class ChunkMetadata(Inert):
    """Offsets and sizes of a chunk."""


class MetadataIndex(Inert):
    """The key of a stored chunk: the tensor's name, and the chunk's offsets."""


class StorageInfo(Inert):
    """The file of a stored chunk, its place in the file, and its length."""


class Ignored(Inert):
    """Any other object of a table. We do not need it."""


class MemoryFormat(Inert):
    """An enumeration. We do not need its members."""


def enum_member(kind: object, name: object) -> None:
    """Accept a member of MemoryFormat.

    Python 3.11.2 (Debian 12) pickles ``getattr(kind, name)``, others ``kind(value)``.
    """
    if kind is not MemoryFormat or not isinstance(name, str):
        raise pickle.UnpicklingError(f"a table may not look up {name!r}")


def size(values: object) -> tuple[int, ...]:
    """Stand for ``torch.Size``."""
    return integers(values)


def integers(values: object) -> tuple[int, ...]:
    """Return a tuple of integers. Raises UnpicklingError for anything else."""
    # A bool is an int for isinstance, so the exact type is compared.
    if not isinstance(values, (tuple, list)) or not all(type(value) is int for value in values):
        raise pickle.UnpicklingError("a size is not made of integers")
    return tuple(values)


def ignored(*_: object) -> None:
    """Stand for a function whose result we do not need."""


def rebuild_tensor(storage: object, offset: object, shape: object, stride: object, *_: object) -> SavedTensor:
    """Stand for ``torch._utils._rebuild_tensor_v2``, which would make the tensor."""
    if not isinstance(storage, Storage) or type(offset) is not int:
        raise pickle.UnpicklingError("a tensor has no storage")
    return SavedTensor(storage, offset, integers(shape), integers(stride))


class Storage:
    """The entry of the archive that holds the elements, and their type."""

    def __init__(self, dtype: torch.dtype, key: str, elements: int) -> None:
        self.dtype = dtype
        self.key = key
        self.elements = elements


class SavedTensor:
    """A tensor of a ``torch.save`` archive. Its offset and strides count elements of its storage."""

    def __init__(
        self, storage: Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
    ) -> None:
        self.storage = storage
        self.offset = offset
        self.shape = shape
        self.stride = stride


Names = Mapping[tuple[str, str], object]

DTYPE_NAMES: dict[tuple[str, str], object] = {
    ("torch", str(dtype).removeprefix("torch.")): dtype
    for dtype in (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    )
}

METADATA = "torch.distributed.checkpoint.metadata"
# Pairs of module and name are compared whole. A prefix would also admit functions beside these.
TABLE_NAMES: Names = DTYPE_NAMES | {
    (METADATA, "Metadata"): Metadata,
    (METADATA, "TensorStorageMetadata"): TensorMetadata,
    (METADATA, "BytesStorageMetadata"): BytesMetadata,
    (METADATA, "TensorProperties"): TensorProperties,
    (METADATA, "ChunkStorageMetadata"): ChunkMetadata,
    (METADATA, "MetadataIndex"): MetadataIndex,
    (METADATA, "StorageMeta"): Ignored,
    (METADATA, "_MEM_FORMAT_ENCODING"): MemoryFormat,
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"): StorageInfo,
    ("torch", "Size"): size,
    ("torch.serialization", "_get_layout"): ignored,
    ("pathlib", "PosixPath"): ignored,
    # Python 3.13 keeps this class in another module.
    ("pathlib._local", "PosixPath"): ignored,
    ("collections", "OrderedDict"): ignored,
    ("builtins", "getattr"): enum_member,
}
"""Every name in a table that torch 2.6 to 2.15 wrote for us."""

STORAGE_DTYPES: dict[tuple[str, str], object] = {
    ("torch", "DoubleStorage"): torch.float64,
    ("torch", "FloatStorage"): torch.float32,
    ("torch", "HalfStorage"): torch.float16,
    ("torch", "BFloat16Storage"): torch.bfloat16,
    ("torch", "LongStorage"): torch.int64,
    ("torch", "IntStorage"): torch.int32,
    ("torch", "ShortStorage"): torch.int16,
    ("torch", "CharStorage"): torch.int8,
    ("torch", "ByteStorage"): torch.uint8,
    ("torch", "BoolStorage"): torch.bool,
}
ARCHIVE_NAMES: Names = STORAGE_DTYPES | {
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("collections", "OrderedDict"): ignored,
}
"""Every name in the archive of a plain tensor."""


class InertUnpickler(pickle.Unpickler):
    """An unpickler that knows only ``names``. No list has a dotted name, so no attribute can be reached."""

    def __init__(self, data: bytes, names: Names) -> None:
        super().__init__(io.BytesIO(data))
        self.names = names

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.names:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no checkpoint of ours does")
        return self.names[module, name]

    def persistent_load(self, identifier: object) -> Storage:
        """Return a storage of the archive: ("storage", its type, the entry's name, a device, its elements)."""
        # torch.save writes a storage as a reference of this form. Any other form is not ours.
        match identifier:
            case ("storage", torch.dtype() as dtype, str() as key, str(), int() as elements):
                return Storage(dtype, key, elements)
        raise pickle.UnpicklingError("it refers to something that is no storage")


def load(data: bytes, names: Names, file: str, convert: Callable[[Any], Any]) -> Any:
    """Return ``convert`` of the content of a pickle. Raises only Damaged, for any wrong ``data``."""
    try:
        return convert(InertUnpickler(data, names).load())
    except Damaged:
        # `convert` has already named the fault.
        raise
    except Exception as error:
        # A malformed pickle can raise almost any exception.
        raise Damaged([f"{file}: it cannot be read: {type(error).__name__}: {error}"]) from None
