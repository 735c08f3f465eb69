"""Points of a CSV file."""

from __future__ import annotations

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.scaling.points import parse_points


def test_columns_have_the_names_that_people_give_them() -> None:
    text = "name, N, D, loss\na,1e9,2e10,2.5\n\nb,2e9,4e10,2.4\n"
    first, second = parse_points(text, "p.csv")
    assert (first.name, first.parameters, first.tokens, first.loss) == ("a", 1e9, 2e10, 2.5)
    assert second.name == "b"


def test_tokens_follow_from_flops() -> None:
    (point,) = parse_points("Model Size,Training FLOP,loss\n1e9,1.2e20,2.5\n", "p.csv")
    assert point.tokens == pytest.approx(2e10)
    assert point.name == "p.csv:2"


def test_what_is_no_number_is_named_with_its_line() -> None:
    with pytest.raises(UserError, match=r"p\.csv:3: loss is no number"):
        parse_points("N,D,loss\n1e9,2e10,2.5\n1e9,2e10,x\n", "p.csv")


@pytest.mark.parametrize("text", ["", "N,loss\n1,2\n", "a,b,c\n"])
def test_a_missing_column_is_named(text: str) -> None:
    with pytest.raises(UserError, match="no column for"):
        parse_points(text, "p.csv")
