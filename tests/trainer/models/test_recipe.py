"""CONTRIBUTING's recipe for a model family holds, and a family made after it trains."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobctl.trainer.models.registry import families
from tests.trainer.corpus import arguments, write_corpus
from tests.trainer.models import tiny
from tests.trainer.running import PROJECT, losses, prepare, records, train

RECIPE = (PROJECT / "CONTRIBUTING.md").read_text().split("## A model family")[1].split("\n## ")[0]
OURS = [family.name for family in families() if family.name != "gemma_like"]


@pytest.mark.parametrize("name", OURS)
def test_every_family_of_ours_is_made_of_the_files_that_the_recipe_names(name: str) -> None:
    paths = [path.replace("NAME", name) for path in re.findall(r"`((?:jobs|trainer|tests)/[^`]*)`", RECIPE)]
    assert len(paths) > 8
    for path in paths:
        assert (PROJECT / path).exists(), path


def test_a_family_made_after_the_recipe_trains_by_default_what_its_file_describes(tmp_path: Path) -> None:
    command = arguments(
        write_corpus(tmp_path / "data"), tmp_path / "run", architecture="gemma_like", max_iters=40
    )
    training = prepare(command)
    assert type(training.run.stepper.model) is tiny.family("gemma_like").build

    assert train(command) == 0
    (start,) = records(tmp_path / "run", "start")
    assert start["startup_info"]["kernels"] == "plain: the family gemma_like declares no fused block"
    assert losses(tmp_path / "run")[-1] < losses(tmp_path / "run")[0]
