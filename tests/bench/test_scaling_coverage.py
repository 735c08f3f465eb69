"""The benchmark of a fit's intervals."""

from __future__ import annotations

from bench.scaling_coverage import coverage


def test_shares_are_of_all_sets_and_all_numbers() -> None:
    shares = coverage(sets=2, count=40, noise=0.005, resamples=20)
    assert list(shares) == ["E", "A", "B", "alpha", "beta"]
    assert all(share in (0.0, 0.5, 1.0) for share in shares.values())
