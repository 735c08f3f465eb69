"""Every row is written once, by one rank, in one file, whatever the sizes."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobctl.trainer.checkpoint import plan
from jobctl.trainer.checkpoint.plan import Rows, divide_into_files, file_header, segments, share_of_rank

SHAPES = st.lists(st.lists(st.integers(1, 9), min_size=0, max_size=3).map(tuple), min_size=1, max_size=8)


@given(shapes=SHAPES, ranks=st.integers(1, 5), limit=st.integers(1, 200))
def test_ranks_share_what_all_of_them_hold(shapes: list[tuple[int, ...]], ranks: int, limit: int) -> None:
    tensors = {f"t{index}": torch.zeros(shape) for index, shape in enumerate(shapes)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SEGMENT_BYTES", limit)
        shares = [share_of_rank(tensors, rank, ranks) for rank in range(ranks)]

    written = sorted(
        (piece.name, row) for share in shares for piece in share for row in range(piece.start, piece.stop)
    )
    assert written == sorted(
        (name, row) for name, t in tensors.items() for row in range(t.shape[0] if t.ndim else 1)
    )

    biggest = max(piece.bytes for share in shares for piece in share)
    loads = [sum(piece.bytes for piece in share) for share in shares]
    assert max(loads) - min(loads) <= biggest


def test_a_large_tensor_is_cut_by_rows_and_a_row_is_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SEGMENT_BYTES", 100)
    cut = list(segments("w", torch.zeros(10, 8), 2, 9))
    assert [(piece.start, piece.stop) for piece in cut] == [(2, 5), (5, 8), (8, 9)]
    assert [piece.sizes for piece in segments("w", torch.zeros(2, 200), 0, 2)] == [(1, 200), (1, 200)]


def test_a_scalar_is_one_row() -> None:
    (piece,) = segments("step", torch.tensor(3.0), 0, 1)
    assert (piece.sizes, piece.offsets, piece.bytes, piece.label) == ((), (), 4, "step")


def test_files_are_of_about_the_same_size_and_few_where_little_is_written() -> None:
    big = [Rows("w", torch.float32, (64, 1 << 20), row, row + 1) for row in range(64)]
    sizes = [sum(piece.bytes for piece in file) for file in divide_into_files(big, 3)]
    assert len(sizes) == 3
    assert max(sizes) - min(sizes) <= 4 << 20
    assert len(divide_into_files(big[:2], 8)) == 1
    assert divide_into_files([], 8) == []


def test_tensors_begin_on_a_multiple_of_their_own_size() -> None:
    shares = [
        Rows("a", torch.bool, (3,), 0, 3),
        Rows("b", torch.int64, (2,), 0, 2),
        Rows("c", torch.bfloat16, (5,), 0, 5),
    ]
    (file,) = divide_into_files(shares, 1)
    header = file_header(file)
    entries = json.loads(header[8:])
    assert int.from_bytes(header[:8], "little") + 8 == len(header)
    assert len(header) % plan.HEADER_ALIGNMENT == 0
    assert [entries[name]["data_offsets"] for name in "bca"] == [[0, 16], [16, 26], [26, 29]]


def test_part_of_a_tensor_says_which_rows() -> None:
    assert Rows("w", torch.float32, (8, 2), 0, 8).label == "w"
    assert Rows("w", torch.float32, (8, 2), 2, 5).label == "w[2:5]"
