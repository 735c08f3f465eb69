"""Counts and durations in a few characters."""

from __future__ import annotations

import pytest

from jobctl.jobs.core.amounts import clock, short_count


@pytest.mark.parametrize(
    ("count", "text"),
    [(81.727e9, "81.7B"), (1.36e12, "1.36T"), (22.6e6, "22.6M"), (4096, "4.1k"), (999, "999"), (0, "0")],
)
def test_a_count_has_three_digits(count: float, text: str) -> None:
    assert short_count(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "00:00:00"), (59.6, "00:01:00"), (3723, "01:02:03"), (93784, "1d 02:03:04")]
)
def test_a_duration_is_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
