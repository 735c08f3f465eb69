from bench.intervals import exposed, merged


def test_spans_that_touch_or_overlap_become_one() -> None:
    assert merged([(5, 6), (0, 2), (1, 3), (3, 4)]) == [(0, 4), (5, 6)]


def test_only_the_time_beside_which_nothing_runs_is_exposed() -> None:
    assert exposed([(0, 10)], []) == 10
    assert exposed([(0, 10), (2, 4)], [(1, 3), (2, 5), (9, 20)]) == 10 - 4 - 1
    assert exposed([(0, 1)], [(0, 1)]) == 0
