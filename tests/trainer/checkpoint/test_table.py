import msgspec
import pytest

from jobctl.trainer.checkpoint.table import Segment, Table, TensorEntry, problems_of

SIZES = {"f": 1000}


def segment(first: int, rows: int, **changes: object) -> Segment:
    begin = 100 + first * 8
    whole = Segment("f", begin, begin + rows * 8, (first, 0), (rows, 2))
    return msgspec.structs.replace(whole, **changes)


def problems(*segments: Segment, dtype: str = "F32", shape: tuple[int, ...] = (5, 2)) -> list[str]:
    return problems_of(Table({"w": TensorEntry(dtype, shape, segments)}), SIZES)


def test_a_tensor_whose_rows_are_all_stored_once_is_right() -> None:
    assert not problems(segment(2, 3), segment(0, 2))
    assert not problems(Segment("f", 0, 4, (), ()), shape=())
    assert not problems(shape=(0, 2))


@pytest.mark.parametrize(
    ("segments", "words"),
    [
        ([segment(0, 2)], "rows from 2 on are missing"),
        ([segment(0, 2), segment(3, 2)], "rows from 2 on are missing or stored twice"),
        ([segment(0, 3), segment(2, 3)], "rows from 2 on are missing or stored twice"),
        ([segment(0, 9)], "rows from 9 on are missing"),
        ([segment(0, 5, file="../f")], "is not one of the checkpoint's"),
        ([segment(0, 5, end=10**12)], "cannot hold it"),
        ([segment(0, 5, begin=-40, end=0)], "cannot hold it"),
        ([segment(0, 5, begin=104)], "cannot hold it"),
        ([segment(0, 5, offsets=(0, 1))], "not a block of its rows"),
        ([segment(0, 5, sizes=(5, 1))], "not a block of its rows"),
        ([segment(0, 5, offsets=(0,))], "not a block of its rows"),
        ([segment(0, 5, sizes=(-5, 2))], "not a block of its rows"),
    ],
)
def test_whatever_cannot_be_right_is_said(segments: list[Segment], words: str) -> None:
    (problem,) = problems(*segments)
    assert problem.startswith("w: ")
    assert words in problem


def test_an_unknown_type_and_an_impossible_shape_are_said() -> None:
    assert problems(segment(0, 5), dtype="F31") == ["w: its type F31 is unknown"]
    assert problems(shape=(-5, 2)) == ["w: its shape [-5, 2] is impossible"]
