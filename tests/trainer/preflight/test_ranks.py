"""Who measures with whom, and the whole of it on this machine with gloo."""

import pytest

from jobctl.trainer.preflight.ranks import neighbours


@pytest.mark.parametrize("nodes", [2, 3, 4, 5, 8])
def test_pairs_are_mutual_and_every_node_is_in_one(nodes: int) -> None:
    measured = set()
    for odd in (0, 1):
        pairs = [neighbours(node, nodes, odd) for node in range(nodes)]
        for node, pair in enumerate(pairs):
            assert node in pair
            assert all(pairs[other] == pair for other in pair)
            measured |= set(pair) if len(pair) == 2 else set()
    assert measured == set(range(nodes))


def test_no_node_has_the_same_neighbour_twice() -> None:
    for nodes in (4, 6, 8):
        for node in range(nodes):
            assert neighbours(node, nodes, 0) != neighbours(node, nodes, 1)
