"""The model of a configuration: its weights follow from the seed, or are those that are given."""

from __future__ import annotations

import pytest
import torch

from jobctl.trainer.models.attention import ManualAttention
from jobctl.trainer.models.building import build_model, model_of_weights
from tests.trainer.models import tiny


@pytest.mark.parametrize("shape", tiny.SHAPES)
def test_a_meta_model_becomes_the_model_of_the_seed(shape: str) -> None:
    torch.manual_seed(7)
    direct = build_model(tiny.config(shape), ManualAttention())
    with torch.device("meta"):
        late = build_model(tiny.config(shape), ManualAttention())
    assert all(tensor.is_meta for tensor in late.state_dict().values())
    late.to_empty(device="cpu")
    torch.manual_seed(7)
    late.init_weights()
    assert all(torch.equal(late.state_dict()[name], tensor) for name, tensor in direct.state_dict().items())
    torch.testing.assert_close(late(tiny.tokens()), direct(tiny.tokens()), rtol=0, atol=0)


@pytest.mark.parametrize("shape", tiny.SHAPES)
def test_the_seed_decides_the_weights(shape: str) -> None:
    built = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        built.append(build_model(tiny.config(shape), ManualAttention()).state_dict())
    assert all(torch.equal(built[0][name], built[1][name]) for name in built[0])
    assert not torch.equal(built[0]["embed_tokens.weight"], built[2]["embed_tokens.weight"])


def test_position_tables_survive_a_cast_of_the_parameters() -> None:
    model = tiny.model("qwen3")
    cast = model_of_weights(
        model.config, model.state_dict(), ManualAttention(), torch.device("cpu"), torch.bfloat16
    )
    assert cast.embed_tokens.weight.dtype == torch.bfloat16
    assert cast.rotary is not None
    assert torch.equal(cast.rotary.cos, model.rotary.cos)


def test_a_model_of_given_weights_is_for_use_and_not_for_training() -> None:
    trained = tiny.model("llama-tied").train()
    used = model_of_weights(trained.config, trained.state_dict(), ManualAttention(), torch.device("cpu"))
    assert not used.training
    assert not any(parameter.requires_grad for parameter in used.parameters())
    torch.testing.assert_close(used(tiny.tokens()), trained(tiny.tokens()), rtol=0, atol=0)


def test_a_model_never_begins_with_weights_that_nobody_gave() -> None:
    state = tiny.model("qwen3").state_dict()
    del state["blocks.1.mlp.up_proj.weight"]
    with pytest.raises(RuntimeError, match=r"blocks\.1\.mlp\.up_proj\.weight"):
        model_of_weights(tiny.config("qwen3"), state, ManualAttention(), torch.device("cpu"))
