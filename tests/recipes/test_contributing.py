"""Each recipe of CONTRIBUTING works when it is followed to the letter."""

from __future__ import annotations

import re

import pytest

from tests.recipes.conftest import Checkout
from tests.recipes.recipe import CONTRIBUTING, Command, section, steps

TEXT = CONTRIBUTING.read_text(encoding="utf-8")
FOLLOWED = (
    "A model",
    "A GPU",
    "A stage or a tier",
    "A site",
    "A data set",
    "A tokenizer",
    "A command",
    "An optimiser",
    "A change of checkpoints",
    "A setting",
)
ELSEWHERE = {
    "A target": "tests/jobs/targets/test_third_party.py",
    "A kind of job": "tests/jobs/test_kinds.py",
    "The record of a run": "tests/jobs/runs/data/",
    "A model family": "tests/trainer/models/test_recipe.py",
}
"""Recipes that another test follows, which the recipe names."""


@pytest.mark.parametrize("title", FOLLOWED)
def test_a_recipe_works_when_it_is_followed_to_the_letter(title: str, checkout: Checkout) -> None:
    recipe = steps(section(title, TEXT))
    assert [step for step in recipe if isinstance(step, Command) and step.shown], "it shows no result"

    for step in recipe:
        if not isinstance(step, Command):
            step.follow(checkout.folder)
            continue

        answer = checkout.run(step.words)
        assert answer.returncode == 0, f"$ {step.words}\n{answer.stdout}\n{answer.stderr}"
        assert step.missing(answer.stdout) == [], f"$ {step.words}\n{answer.stdout}"


def test_every_recipe_is_followed_by_a_test() -> None:
    assert sorted(re.findall(r"^## (.*)$", TEXT, re.MULTILINE)) == sorted([*FOLLOWED, *ELSEWHERE])
    for title, test in ELSEWHERE.items():
        assert test in section(title, TEXT)


def test_the_table_leads_to_every_recipe() -> None:
    links = re.findall(r"\]\(#([a-z-]+)\)", TEXT.split("## A model")[0])
    titles = [*FOLLOWED, *ELSEWHERE]
    assert sorted(links) == sorted(title.lower().replace(" ", "-") for title in titles)
