"""An estimate in words."""

from __future__ import annotations

import pytest

from jobctl.jobs.catalog.schema import PricesSection, Site
from jobctl.jobs.core.amounts import short_count
from jobctl.jobs.estimate.report import estimate
from jobctl.jobs.estimate.words import page, refuse, short
from tests.jobs.estimate.questions import question


def test_the_page_names_parts_verdict_rate_and_basis() -> None:
    text = page(estimate(question()))
    for words in (
        "feed-forward layers",
        "93.11  in total",
        "fits",
        "largest batch_size that fits is 31",
        "measured",
    ):
        assert words in text


def test_what_was_not_measured_is_called_so() -> None:
    text = page(estimate(question("b200")))
    assert "EXTRAPOLATED" in text
    assert "(extrapolated)" in short(estimate(question("b200")))
    assert "extrapolated" not in short(estimate(question()))


def test_an_unknown_rate_sends_the_reader_to_the_probe() -> None:
    unknown = estimate(question(known=None))
    assert "jobctl probe" in page(unknown)
    assert short(unknown).startswith("estimate: 94.")


def test_the_short_form_is_one_line_with_the_price() -> None:
    line = short(estimate(question(site=Site(prices=PricesSection(gpu_hour=2.0, currency="EUR")))))
    assert "\n" not in line
    assert line.endswith("EUR")
    assert "GPU-hours" in line


def test_a_refusal_says_need_room_and_what_to_do() -> None:
    error = refuse(estimate(question(batch=40)))
    assert "batch_size 40 needs" in error.message
    assert "139.1" in error.message
    assert "--set batch_size=31" in error.hint
    assert "--force" in error.hint
    assert error.code == 2


def test_where_nothing_fits_no_batch_is_offered() -> None:
    error = refuse(estimate(question("a6000", batch=40, available_gib=20.0)))
    assert "not even one sequence fits" in error.hint


def test_goodput_is_told_with_its_runs() -> None:
    text = page(estimate(question(goodput=0.9, goodput_runs=4)))
    assert "goodput 90.0%, the mean of 4 runs" in text
    assert "with that goodput" in text


@pytest.mark.parametrize(
    ("count", "words"), [(1.83e9, "1.83B"), (22.6e6, "22.6M"), (1.5e12, "1.5T"), (7, "7"), (2048, "2.05k")]
)
def test_counts_are_short(count: float, words: str) -> None:
    assert short_count(count) == words
