"""A table of contents that Python 3.11.2, Debian 12's, wrote: it pickles an enumeration's members by ``getattr``."""

from __future__ import annotations

import io
import pickle

import pytest
from torch.distributed.checkpoint.metadata import _MEM_FORMAT_ENCODING

from jobctl.trainer.checkpoint.checkpointer import TableUnpickler


class LookedUp:
    """Pickles as ``getattr(kind, name)``."""

    def __init__(self, kind: object, name: str) -> None:
        self.kind, self.name = kind, name

    def __reduce__(self) -> tuple[object, ...]:
        return getattr, (self.kind, self.name)


def load(kind: object, name: str) -> object:
    return TableUnpickler(io.BytesIO(pickle.dumps(LookedUp(kind, name)))).load()


def test_members_of_enumerations_are_loaded() -> None:
    member = _MEM_FORMAT_ENCODING.TORCH_CONTIGUOUS_FORMAT
    assert load(_MEM_FORMAT_ENCODING, member.name) is member


def test_nothing_else_is_looked_up_by_name() -> None:
    with pytest.raises(KeyError):
        load(_MEM_FORMAT_ENCODING, "__class__")
    with pytest.raises(pickle.UnpicklingError, match="may not look into 'text'"):
        load("text", "join")
