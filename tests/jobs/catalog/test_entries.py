"""A rule of the hardware holds for the tiers and stages that it names, and for all if it names none."""

from __future__ import annotations

import itertools

import pytest

from jobctl.jobs.catalog.entries import Rule
from jobctl.jobs.catalog.loader import load_hardware, names


@pytest.mark.parametrize(
    ("tiers", "stages", "applies"),
    [
        ((), (), True),
        ((2,), (), True),
        ((1, 3), (), False),
        ((), ("train",), True),
        ((), ("sweep",), False),
        ((2,), ("sweep",), False),
        ((1,), ("train",), False),
    ],
)
def test_a_rule_applies_where_both_its_lists_do(
    tiers: tuple[int, ...], stages: tuple[str, ...], applies: bool
) -> None:
    rule = Rule(basis="guide", settings={}, tiers=tiers, stages=stages)
    assert rule.applies(2, "train") is applies


def test_the_rules_of_the_catalogue_name_what_there_is() -> None:
    rules = [
        (model, rule)
        for name in names("hardware")
        for model, entries in load_hardware(name).models.items()
        for rule in entries
    ]
    assert len(rules) > 50
    assert {model for model, _ in rules} <= set(names("models"))
    assert {stage for _, rule in rules for stage in rule.stages} <= set(names("stages"))
    tiers = set(itertools.chain.from_iterable(rule.tiers for _, rule in rules))
    assert {str(tier) for tier in tiers} <= set(names("tiers"))
