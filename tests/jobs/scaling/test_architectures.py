"""The shapes of a family keep its rules."""

from __future__ import annotations

import pytest

from jobctl.jobs.catalog.consistency import check_model
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.scaling.architectures import (
    ASPECT,
    HEAD,
    TEMPLATES,
    architectures,
    catalogue_models,
    template,
)


@pytest.mark.parametrize("family", list(TEMPLATES))
def test_every_shape_can_be_built(family: str) -> None:
    chosen = template(family)
    shapes = list(architectures(chosen, layers=range(8, 33, 8), widths=range(1024, 4097, 1024)))
    assert shapes
    for shape in shapes:
        check_model(shape)
        assert shape.num_attention_heads * HEAD == shape.hidden_size
        assert ASPECT[0] <= shape.hidden_size / shape.num_hidden_layers <= ASPECT[1]
        assert shape.vocab_size == chosen.config.vocab_size
        assert (shape.num_key_value_heads < shape.num_attention_heads) == chosen.grouped


def test_a_family_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UserError, match="unknown family 'llama'"):
        template("llama")


def test_the_catalogues_models_belong_to_their_family() -> None:
    assert catalogue_models(template("llama3")) == ["llama3_1.5b", "llama3_2.2b"]
    assert catalogue_models(template("llama2")) == ["llama2_1.36b"]
