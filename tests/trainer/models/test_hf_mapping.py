"""What every family's configuration of ``transformers`` is read with."""

from __future__ import annotations

from typing import Any

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.trainer.models.hf_mapping import refuse_unsupported, required, rope_values


@pytest.mark.parametrize("values", [{}, {"hidden_size": None}], ids=["absent", "null"])
def test_a_shape_is_never_guessed(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"config\.json: 'hidden_size' is missing"):
        required(values, "hidden_size")


def test_a_zero_is_a_value() -> None:
    assert required({"num_hidden_layers": 0}, "num_hidden_layers") == 0


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"rope_scaling": None},
        {"rope_parameters": None, "rope_scaling": None},
    ],
    ids=["absent", "null", "both null"],
)
def test_no_section_of_positions_is_an_empty_one(values: dict[str, Any]) -> None:
    assert rope_values(values) == {}


def test_the_newer_name_of_the_section_wins() -> None:
    values = {"rope_parameters": {"rope_type": "linear"}, "rope_scaling": {"rope_type": "yarn"}}
    assert rope_values(values)["rope_type"] == "linear"


@pytest.mark.parametrize(
    ("values", "said", "hint"),
    [
        ({"hidden_act": "relu"}, "hidden_act=relu", "it must be silu"),
        ({"mlp_bias": True}, "mlp_bias=True", "it must be False"),
        ({"use_sliding_window": True}, "use_sliding_window=True", "it must be False"),
        ({"scale_attn_weights": False}, "scale_attn_weights=False", "it must be True"),
        ({"quantization_config": {"bits": 4}}, "quantized", "load the unquantized model"),
    ],
)
def test_a_key_that_would_change_the_numbers_is_refused_with_what_we_have(
    values: dict[str, Any], said: str, hint: str
) -> None:
    with pytest.raises(UserError, match=said) as refused:
        refuse_unsupported(values, "hidden_act", ("silu", "swish"))
    assert refused.value.hint == hint


def test_absent_and_null_keys_have_their_defaults() -> None:
    refuse_unsupported({"hidden_act": None, "attention_bias": None}, "hidden_act", ("silu",))
    refuse_unsupported({"hidden_act": "swish"}, "hidden_act", ("silu", "swish"))
