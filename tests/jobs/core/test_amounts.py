"""Counts, sizes and durations in a few characters."""

from __future__ import annotations

import pytest

from jobctl.jobs.core.amounts import clock, counted, duration, short_bytes, short_count


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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0312, "31.2 ms"),
        (4.26, "4.26 s"),
        (59.96, "1 min 00 s"),
        (725.0, "12 min 05 s"),
        (3599.6, "1 h 00 min"),
        (12000.0, "3 h 20 min"),
        (86399.0, "1 d 00 h"),
        (93600.0, "1 d 02 h"),
        (864000.0, "10 d 00 h"),
    ],
)
def test_a_duration_has_the_units_that_people_would_take(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (12, "12 B"),
        (999.7, "1 kB"),
        (70_100, "70.1 kB"),
        (1_500_000, "1.5 MB"),
        (2.2e9, "2.20 GB"),
        (4e12, "4,000.00 GB"),
    ],
)
def test_a_size_has_the_unit_that_fits_it(count: float, text: str) -> None:
    assert short_bytes(count) == text


def test_a_noun_follows_its_count() -> None:
    assert [counted(n, "node") for n in (0, 1, 2)] == ["0 nodes", "1 node", "2 nodes"]
