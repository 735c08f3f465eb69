"""The list of families, and how each is found."""

from __future__ import annotations

import pytest

from jobctl.jobs.catalog.consistency import check_model
from jobctl.jobs.catalog.loader import family_names, load_family
from jobctl.jobs.core.errors import UserError
from jobctl.trainer.models.attention import ManualAttention
from jobctl.trainer.models.building import build_model
from jobctl.trainer.models.registry import families, family_of
from tests.trainer.models import tiny
from tests.trainer.models.gemma_like.model import Gemma


def test_the_catalogue_has_the_facts_of_every_family_and_of_no_other() -> None:
    assert [family.name for family in families()] == family_names()


def test_every_family_is_tested_in_a_shape_of_its_own() -> None:
    assert {tiny.family(shape).name for shape in tiny.SHAPES} == set(family_names())


def test_an_unknown_family_is_answered_with_the_nearest_name() -> None:
    config = tiny.config("qwen3", architecture="qwen")
    for refused in (
        lambda: family_of("qwen"),
        lambda: load_family("qwen"),
        lambda: check_model(config),
        lambda: build_model(config, ManualAttention()),
    ):
        with pytest.raises(UserError, match="unknown architecture 'qwen'; did you mean 'qwen3'"):
            refused()


def test_a_family_of_ones_own_is_built_and_checked_as_ours_are() -> None:
    model = tiny.model("gemma_like")
    check_model(model.config)
    assert type(model) is Gemma


def test_a_shape_that_a_family_cannot_have_is_refused_by_its_facts() -> None:
    with pytest.raises(UserError, match="gpt2 has no grouped queries"):
        check_model(tiny.config("gpt2", num_key_value_heads=2))
    with pytest.raises(UserError, match="RoPE rotates pairs"):
        check_model(tiny.config("gemma_like", head_dim=11))
    check_model(tiny.config("gpt2", head_dim=11))
