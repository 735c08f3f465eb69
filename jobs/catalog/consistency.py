"""Refuse values of a model and its training that are allowed one by one, but not together."""

from __future__ import annotations

from jobctl.jobs.catalog.loader import load_family
from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig
from jobctl.jobs.core.errors import UserError


def check_model(model: ModelConfig) -> None:
    """Raise UserError for a model that cannot be built, or for an unknown family."""
    family = load_family(model.architecture)
    heads = model.num_attention_heads
    groups = model.num_key_value_heads

    # Each key head serves the same number of query heads.
    if heads % groups:
        raise UserError(f"num_attention_heads {heads} is not a multiple of num_key_value_heads {groups}")

    if not family.grouped_queries and heads != groups:
        raise UserError(
            f"{model.architecture} has no grouped queries: num_key_value_heads must be {heads}, not {groups}"
        )

    if model.bias and not family.biases:
        raise UserError(f"bias: the family {model.architecture} has no biases")

    # The range between both factors is interpolated linearly. Without a range the formula divides by zero.
    if model.rope_type == "llama3" and model.rope_high_freq_factor <= model.rope_low_freq_factor:
        raise UserError(
            f"rope_high_freq_factor {model.rope_high_freq_factor} must be above rope_low_freq_factor "
            f"{model.rope_low_freq_factor}"
        )

    if family.rotary_positions and model.head_dim % 2:
        raise UserError(f"head_dim {model.head_dim}: RoPE rotates pairs, so head_dim must be even")


def check_training(model: ModelConfig, train: TrainConfig) -> None:
    """Raise UserError for a training of ``model`` whose settings contradict each other."""
    if train.block_size > model.max_position_embeddings:
        raise UserError(
            f"block_size {train.block_size} is longer than the model's max_position_embeddings "
            f"{model.max_position_embeddings}",
            hint="lower block_size, or raise max_position_embeddings before training begins",
        )

    if train.use_zero1 and train.use_fsdp:
        raise UserError(
            "use_zero1 and use_fsdp are both on. FSDP also shards the optimiser state: choose one",
            hint="--set use_zero1=false, or --set use_fsdp=false",
        )

    check_offload(train)
    # Otherwise the cosine would rise from the peak to its end.
    if train.min_lr > train.learning_rate:
        raise UserError(f"min_lr {train.min_lr} is above learning_rate {train.learning_rate}")

    # 0 means: decay until the last step, whatever its number.
    if train.lr_decay_iters and train.lr_decay_iters < train.warmup_iters:
        raise UserError(
            f"lr_decay_iters {train.lr_decay_iters} is before the end of warmup_iters {train.warmup_iters}"
        )


def check_offload(train: TrainConfig) -> None:
    """Raise UserError if ``activation_checkpointing: offload`` contradicts another setting."""
    if train.activation_checkpointing != "offload":
        return

    if train.kernels == "plain" or train.dtype != "bfloat16":
        raise UserError(
            "activation_checkpointing=offload needs the fused kernels, and they compute in bfloat16: "
            f"kernels is {train.kernels}, dtype is {train.dtype}",
            hint="--set kernels=auto --set dtype=bfloat16, or activation_checkpointing=selective",
        )

    if train.use_fp8:
        raise UserError(
            "activation_checkpointing=offload and use_fp8=true are both on: float8 keeps other tensors",
            hint="--set use_fp8=false, or activation_checkpointing=selective",
        )
