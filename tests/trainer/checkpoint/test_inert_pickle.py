"""A pickle of an older checkpoint is data: whatever it names, nothing is looked up, imported, called or changed."""

from __future__ import annotations

import os
import pickle
import pickletools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.checkpoint.metadata import _MEM_FORMAT_ENCODING

from jobctl.trainer.checkpoint import inert_pickle as inert
from jobctl.trainer.checkpoint.integrity import Damaged

METADATA = "torch.distributed.checkpoint.metadata"


def load(data: bytes, names: inert.Names = inert.TABLE_NAMES) -> Any:
    return inert.load(data, names, ".metadata", lambda content: content)


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"\x8c" + bytes([len(encoded)]) + encoded


def named(module: str, name: str) -> bytes:
    """Protocol 4's STACK_GLOBAL, which takes dotted names."""
    return text(module) + text(name) + b"\x93"


def program(body: bytes) -> bytes:
    return b"\x80\x04" + body + b"."


COMMAND = text("touch trapped") + b"\x85R"
"""TUPLE1 REDUCE: call what is on the stack with a command."""

DANGEROUS = {
    "a function": named("os", "system") + COMMAND,
    "a module's name in capitals": named(METADATA, "Path") + COMMAND,
    "a dotted name": named(METADATA, "Metadata.__init__") + COMMAND,
    "a dotted name to the globals": named("pathlib", "Path.open.__globals__.get") + text("os") + b"\x85R",
    "a dotted name in a module of the list": named(METADATA, "os.system") + COMMAND,
    "a dotted name of another module": named("torch.distributed.checkpoint.filesystem", "os.system") + COMMAND,
    "an old global": b"cposix\nsystem\n" + COMMAND,
    "an old instance": b"(" + text("touch trapped") + b"iposix\nsystem\n",
    "eval": named("builtins", "eval") + text("__import__('os').system('touch trapped')") + b"\x85R",
    "the unpickler itself": named("pickle", "loads") + COMMAND,
    "getattr of a class": named("builtins", "getattr") + named(METADATA, "Metadata") + text("__init__") + b"\x86R",
    "getattr of a function": named("builtins", "getattr") + named("torch", "Size") + text("__globals__") + b"\x86R",
    "getattr of a text": named("builtins", "getattr") + text("x") + text("join") + b"\x86R",
    "getattr of a number": named("builtins", "getattr") + named(METADATA, "_MEM_FORMAT_ENCODING") + b"K\x01\x86R",
    "a change of a class by its state": named(METADATA, "Metadata") + b"}" + text("__init__") + b"K\x01sb",
    "a change of a class by its slots": named(METADATA, "Metadata") + b"N}" + text("__new__") + b"K\x01s\x86b",
    "a storage outside an archive": text("x") + b"Q",
    "an extension code": b"\x82\x01",
    "a size of text": named("torch", "Size") + text("x") + b"\x85R",
    "a call of a type": named("torch", "float32") + COMMAND,
}  # fmt: skip


@pytest.mark.parametrize("body", DANGEROUS.values(), ids=list(DANGEROUS))
def test_whatever_a_table_may_not_do_is_damage(
    body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Damaged, match=r"^\.metadata: it cannot be read"):
        load(program(body))
    assert not list(tmp_path.iterdir())
    assert inert.Metadata().arguments == ()  # as it was


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch trapped",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("names", [inert.TABLE_NAMES, inert.ARCHIVE_NAMES], ids=["table", "archive"])
def test_a_trap_does_not_close(
    protocol: int, names: inert.Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Damaged, match=r"it names \w+\.system, which no checkpoint of ours does"):
        load(pickle.dumps({"weights": Trap()}, protocol=protocol), names)
    assert not list(tmp_path.iterdir())


def test_no_name_on_a_list_is_dotted() -> None:
    for module, name in (*inert.TABLE_NAMES, *inert.ARCHIVE_NAMES):
        assert module
        assert "." not in name


def test_what_a_name_stands_for_is_ours_or_a_type() -> None:
    for value in (*inert.TABLE_NAMES.values(), *inert.ARCHIVE_NAMES.values()):
        assert getattr(value, "__module__", "torch") in ("torch", inert.__name__)


class LookedUp:
    """Pickles as ``getattr(kind, name)``, as Python 3.11.2 (Debian 12) pickles a member of an enumeration."""

    def __init__(self, kind: object, name: str) -> None:
        self.kind = kind
        self.name = name

    def __reduce__(self) -> tuple[object, ...]:
        return getattr, (self.kind, self.name)


def test_members_of_enumerations_are_read_however_they_were_pickled() -> None:
    member = _MEM_FORMAT_ENCODING.TORCH_CONTIGUOUS_FORMAT
    assert load(pickle.dumps({"a": 1, "b": LookedUp(_MEM_FORMAT_ENCODING, member.name)})) == {
        "a": 1,
        "b": None,
    }
    assert isinstance(load(pickle.dumps(member, protocol=4)), inert.MemoryFormat | None)


def test_records_of_a_table_keep_what_they_are_given() -> None:
    size = named("torch", "Size") + b"K\x02K\x03\x86\x85R"
    chunk = load(program(named(METADATA, "ChunkStorageMetadata") + b")\x81}" + text("sizes") + size + b"sb"))
    assert isinstance(chunk, inert.ChunkMetadata)
    assert chunk.field("sizes") == (2, 3)


ARCHIVE = (
    named("torch._utils", "_rebuild_tensor_v2")
    + b"((" + text("storage") + named("torch", "FloatStorage") + text("0") + text("cpu") + b"K\x06tQ"
    + b"K\x00K\x02K\x03\x86K\x03K\x01\x86\x89" + named("collections", "OrderedDict") + b")RtR"
)  # fmt: skip


def test_a_tensor_of_an_archive_is_told_and_not_made() -> None:
    tensor = load(program(ARCHIVE), inert.ARCHIVE_NAMES)
    assert isinstance(tensor, inert.SavedTensor)
    assert (tensor.storage.key, tensor.storage.elements, tensor.offset) == ("0", 6, 0)
    assert (tensor.shape, tensor.stride) == ((2, 3), (3, 1))


@given(position=st.integers(0, len(ARCHIVE) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_gives_data_or_damage(position: int, byte: int) -> None:
    changed = ARCHIVE[:position] + bytes([byte]) + ARCHIVE[position + 1 :]
    try:
        result = load(program(changed), inert.ARCHIVE_NAMES)
    except Damaged:
        return
    assert not callable(result) or result in inert.ARCHIVE_NAMES.values()


def test_the_programs_of_this_test_are_what_they_say() -> None:
    for body in DANGEROUS.values():
        assert list(pickletools.genops(program(body)))[-1][0].name == "STOP"
