import pytest

from bench.memory import expected, largest


@pytest.mark.parametrize("limit", range(1, 12))
def test_the_largest_batch_is_found_with_few_probes(limit: int) -> None:
    tried: list[int] = []

    def fits(batch: int) -> bool:
        tried.append(batch)
        return batch <= limit

    assert largest(fits, 1, 11) == limit
    assert len(tried) <= 4


def test_no_batch_at_all_is_zero_when_the_search_began_at_one() -> None:
    assert largest(lambda batch: False, -2, 4) == 0


def test_the_expected_batch_lies_on_the_line_through_the_peaks() -> None:
    assert expected({8: 48.0, 16: 88.0}, 139.8) == 26
