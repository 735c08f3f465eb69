from __future__ import annotations

import pytest

from jobctl.jobs.catalog.offloading import offloaded_blocks


@pytest.mark.parametrize(
    ("layers", "blocks"),
    [
        (1, []),
        (2, []),
        (3, [0]),
        (4, [0, 1]),
        (8, [0, 2, 3, 5]),
        (28, [0, 2, 4, 6, 8, 10, 12, 13, 15, 17, 19, 21, 23, 25]),
    ],
)
def test_half_of_the_blocks_leave_and_the_last_two_stay(layers: int, blocks: list[int]) -> None:
    assert offloaded_blocks(layers) == blocks


@pytest.mark.parametrize("layers", range(3, 130))
def test_no_block_leaves_twice(layers: int) -> None:
    blocks = offloaded_blocks(layers)
    assert len(set(blocks)) == len(blocks) == min(layers // 2, layers - 2)
    assert min(blocks) >= 0
    assert max(blocks) < max(1, layers - 2)
