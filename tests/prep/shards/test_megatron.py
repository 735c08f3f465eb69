from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.prep.shards.megatron import Index, read_index
from tests.prep.shards.megatron_files import write

DOCUMENTS = [[5, 6, 0], [7, 0], [1, 2, 3, 4, 0]]


@pytest.mark.parametrize(("dtype", "expected"), [("uint16", "uint16"), ("int32", "uint32")])
def test_an_index_says_type_tokens_and_documents(tmp_path: Path, dtype: str, expected: str) -> None:
    assert read_index(write(tmp_path / "a", DOCUMENTS, dtype)) == Index(expected, 10, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_a_type_that_cannot_be_read_in_place_is_named(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(UserError, match=f"its ids are {dtype}; training in place needs uint16 or int32"):
        read_index(write(tmp_path / "a", DOCUMENTS, dtype))


def test_other_files_and_cut_ones_are_no_index(tmp_path: Path) -> None:
    path = write(tmp_path / "a", DOCUMENTS)
    data = path.read_bytes()
    for wrong, said in (
        (b"", "cannot be read"),
        (data[:20], "it has 20 bytes"),
        (b"TNTIDX\0\0" + data[8:], "not an index of Megatron"),
        (data[:9] + struct.pack("<Q", 2) + data[17:], "its version is not 1"),
        (data[:-1], "is cut"),
    ):
        path.write_bytes(wrong)
        with pytest.raises(UserError, match=said):
            read_index(path)


def test_sequences_that_are_not_end_to_end_are_refused(tmp_path: Path) -> None:
    """A merged or shuffled index may leave holes, which training in place would read as text."""
    path = write(tmp_path / "a", DOCUMENTS)
    data = path.read_bytes()
    places = 34 + 4 * len(DOCUMENTS)
    swapped = np.frombuffer(data[places : places + 24], "<i8")[[1, 0, 2]].tobytes()
    path.write_bytes(data[:places] + swapped + data[places + 24 :])
    with pytest.raises(UserError, match="not end to end"):
        read_index(path)

    marks = np.array([0, 2, 1, 3], "<i8").tobytes()
    path.write_bytes(data[:-32] + marks)
    with pytest.raises(UserError, match="documents are not in the order"):
        read_index(path)
