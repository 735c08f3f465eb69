"""Values that are right alone and wrong together are refused, and name the key to change."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from jobctl.jobs.catalog.consistency import check_model, check_training
from jobctl.jobs.catalog.loader import load_model, names
from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig
from jobctl.jobs.core.errors import UserError


def model(name: str = "qwen3_smoke", **changes: Any) -> ModelConfig:
    return msgspec.structs.replace(load_model(name).config, **changes)


@pytest.mark.parametrize("name", names("models"))
def test_the_models_of_the_catalogue_fit_together(name: str) -> None:
    entry = load_model(name)
    check_model(entry.config)
    check_training(entry.config, msgspec.convert(entry.train, TrainConfig))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (model(num_key_value_heads=3), "num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
        (
            model("gpt2_smoke", num_key_value_heads=1),
            "gpt2 has no grouped queries: num_key_value_heads must be",
        ),
        (model(head_dim=15), "head_dim 15: RoPE rotates pairs, so head_dim must be even"),
        (model(architecture="qwen4"), "unknown architecture 'qwen4'; did you mean 'qwen3'?"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused(config: ModelConfig, message: str) -> None:
    with pytest.raises(UserError) as error:
        check_model(config)
    assert message in str(error.value)


def test_a_family_without_rotation_takes_an_odd_head() -> None:
    check_model(model("gpt2_smoke", head_dim=15))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"block_size": 512}, "block_size 512 is longer than the model's max_position_embeddings 256"),
        ({"use_zero1": True, "use_fsdp": True}, "use_zero1 and use_fsdp are both on"),
        ({"activation_checkpointing": "offload", "use_fp8": True}, "offload and use_fp8=true are both on"),
        ({"activation_checkpointing": "offload", "kernels": "plain"}, "kernels is plain, dtype is bfloat16"),
        ({"activation_checkpointing": "offload", "dtype": "float32"}, "kernels is auto, dtype is float32"),
        ({"min_lr": 1.0}, "min_lr 1.0 is above learning_rate"),
        (
            {"lr_decay_iters": 10, "warmup_iters": 20},
            "lr_decay_iters 10 is before the end of warmup_iters 20",
        ),
    ],
    ids=str,
)
def test_a_training_that_contradicts_itself_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        check_training(model(), TrainConfig(**{"block_size": 128, **settings}))
    assert message in str(error.value)


def test_a_decay_of_no_length_follows_the_run() -> None:
    check_training(model(), TrainConfig(block_size=128, lr_decay_iters=0, warmup_iters=2000))
