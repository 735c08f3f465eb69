from collections.abc import Sequence
from typing import Any, cast

import pytest

from bench.memory import examine, expected, largest


@pytest.mark.parametrize("limit", range(12))
@pytest.mark.parametrize("guess", [-2, 1, 5, 11])
def test_the_largest_batch_is_found_with_few_probes_however_wrong_the_guess_is(
    limit: int, guess: int
) -> None:
    tried: list[int] = []

    def fits(batch: int) -> bool:
        tried.append(batch)
        return batch <= limit

    assert largest(fits, guess, 2) == limit
    assert min(tried) >= 1
    assert len(tried) <= 7


def test_a_right_guess_takes_two_or_three_probes() -> None:
    tried: list[int] = []
    assert largest(lambda batch: tried.append(batch) or batch <= 28, 28, 2) == 28  # type: ignore[func-returns-value]
    assert tried == [28, 30, 29]


def test_the_expected_batch_lies_on_the_line_through_the_peaks() -> None:
    assert expected({8: 48.0, 16: 88.0}, 139.8) == 26


def test_where_the_batches_do_not_fit_the_peaks_are_of_half_as_many() -> None:
    class Probes:
        model = "qwen3_1.8b"
        way = "plain"

        def run(self, batches: Sequence[int]) -> dict[str, Any]:
            if max(batches) > 10:
                return {"error": "OutOfMemoryError: CUDA out of memory."}
            return {
                "peak_gib": {str(b): 10.0 * b for b in batches}, "gpu_gib": 100.0, "first_step_s": 1, "note": ""
            }  # fmt: skip

        def fits(self, batch: int) -> bool:
            return batch <= 10

    found = examine(cast("Any", Probes()), [8, 16], around=2)
    assert found["peak_gib"] == {4: 40.0, 8: 80.0}
    assert found["largest_batch"] == 10
