"""Counts of documents: by split, by source, by length; and sums of the parts of a job."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from jobctl.prep.shards.statistics import Count, Statistics, counted


def column(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


def test_lengths_are_counted_by_powers_of_two() -> None:
    count = counted(column(1, 2, 3, 4, 7, 8, 1024, 1023), column(*range(8)))

    assert count.lengths[:4] == [1, 2, 2, 1]
    assert count.lengths[9] == 1
    assert count.lengths[10] == 1
    assert sum(count.lengths) == count.documents == 8


def test_no_document_is_no_length() -> None:
    assert counted(column(), column()) == Count()


def test_a_longer_histogram_is_added_to_a_shorter_one() -> None:
    short, long = Count(1, 2, 3, [0, 1]), Count(10, 20, 30, [1, 1, 1])
    short.add(long)

    assert short == Count(11, 22, 33, [1, 2, 1])
    assert long == Count(10, 20, 30, [1, 1, 1])


def seen(splits: dict[str, list[tuple[str, int, int]]]) -> Statistics:
    """Return the statistics of documents given as (label, tokens, bytes) by split."""
    statistics = Statistics()
    for split, documents in splits.items():
        labels = [label for label, _, _ in documents]
        tokens = column(*(tokens for _, tokens, _ in documents))
        sizes = column(*(size for _, _, size in documents))
        statistics.see(split, labels, tokens, sizes)
    return statistics


def test_a_document_counts_in_its_split_and_in_its_source() -> None:
    statistics = seen({"train": [("web", 10, 40), ("code", 5, 20), ("web", 1, 4)], "val": [("code", 7, 28)]})

    assert statistics.total.documents == 4
    assert statistics.total.tokens == 23
    assert statistics.splits["train"].tokens == 16
    assert statistics.splits["val"].text_bytes == 28
    assert statistics.by_source["web"].documents == 2
    assert statistics.by_source["code"].tokens == 12


def test_splits_and_sources_add_up_to_the_total() -> None:
    generator = np.random.default_rng(0)
    documents = [(f"source{n % 5}", int(generator.integers(1, 5000)), 9) for n in range(300)]
    statistics = seen({"train": documents[:250], "val": documents[250:]})

    for counts in (statistics.splits, statistics.by_source):
        whole = Count()
        for count in counts.values():
            whole.add(count)
        assert whole == statistics.total


def test_parts_add_up_to_the_whole() -> None:
    one = seen({"train": [("web", 10, 40)]})
    one.left_out = {"short": 2}
    one.rejected = 1
    other = seen({"train": [("web", 30, 100)], "val": [("code", 2, 10)]})
    other.left_out = {"short": 3, "language": 1}
    other.control_tokens = 4

    one.add(other)

    assert one.total == Count(3, 42, 150, [0, 1, 0, 1, 1])
    assert one.splits["train"].documents == 2
    assert one.left_out == {"short": 5, "language": 1}
    assert (one.rejected, one.control_tokens) == (1, 4)
    assert one.bytes_per_token == pytest.approx(150 / 42, abs=1e-4)


def test_adding_to_an_empty_part_does_not_tie_the_two_together() -> None:
    whole, part = Statistics(), seen({"train": [("web", 10, 40)]})
    whole.add(part)
    whole.add(part)

    assert whole.splits["train"].documents == 2
    assert part.splits["train"].documents == 1


def test_statistics_are_read_back_as_they_were_written() -> None:
    statistics = seen({"train": [("web", 10, 40)]})

    assert msgspec.json.decode(msgspec.json.encode(statistics), type=Statistics) == statistics
