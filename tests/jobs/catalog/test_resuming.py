"""Which settings may differ between a checkpoint and the attempt that goes on from it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from jobctl.jobs.catalog.resuming import (
    DERIVED,
    EQUIVALENT,
    FIXED,
    MAY_BE_ALLOWED,
    TRAINING,
    WITHOUT_EFFECT,
    Settings,
    changes,
)
from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig

MODEL = ModelConfig(
    architecture="llama",
    vocab_size=256,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=16,
    max_position_embeddings=64,
)
BEFORE = Settings(MODEL, TrainConfig(), global_batch_size=32, fingerprint="a" * 64)


def after(batch: int = 32, fingerprint: str = "a" * 64, **settings: Any) -> Settings:
    """Return ``BEFORE`` with other settings."""
    model = {key: value for key, value in settings.items() if key in ModelConfig.__struct_fields__}
    train = {key: value for key, value in settings.items() if key in TrainConfig.__struct_fields__}
    return Settings(
        msgspec.structs.replace(MODEL, **model),
        msgspec.structs.replace(BEFORE.train, **train),
        batch,
        fingerprint,
    )


OTHER_WORDS = {"auto": "resume", "skip": "wait", "adamw": "torch_adamw", "bfloat16": "float32"}


def another(value: Any) -> Any:
    """Return a value of the same type that is not ``value``."""
    if isinstance(value, bool):
        return not value
    return OTHER_WORDS.get(value, f"{value}x") if isinstance(value, str) else value + 1


def test_every_setting_is_in_exactly_one_class() -> None:
    classes = (FIXED, TRAINING, DERIVED, EQUIVALENT, WITHOUT_EFFECT)
    fields = [*ModelConfig.__struct_fields__, *TrainConfig.__struct_fields__]
    assert sorted(name for group in classes for name in group) == sorted(fields)


@pytest.mark.parametrize("field", sorted(TRAINING))
def test_what_changes_the_training_needs_its_own_name_allowed(field: str) -> None:
    value = getattr(BEFORE.train, field)
    other = another(value)
    (change,) = changes(BEFORE, after(**{field: other}))
    assert str(change) == f"{field}: {value} -> {other}"
    assert not change.is_allowed(MAY_BE_ALLOWED - {field})
    assert change.is_allowed({field})


@pytest.mark.parametrize("field", sorted(WITHOUT_EFFECT - {"initializer_range"}))
def test_what_cannot_matter_passes_without_a_word(field: str) -> None:
    value = getattr(BEFORE.train, field)
    assert changes(BEFORE, after(**{field: another(value)})) == []


@pytest.mark.parametrize("field", sorted(FIXED))
def test_another_architecture_is_never_allowed(field: str) -> None:
    value = getattr(MODEL, field)
    (change,) = changes(BEFORE, after(**{field: another(value)}))
    assert not change.is_allowed(MAY_BE_ALLOWED)


def test_other_kernels_and_layouts_are_said_and_pass() -> None:
    lines = changes(BEFORE, after(kernels="plain", use_fsdp=True))
    assert [str(line) for line in lines] == ["kernels: auto -> plain", "use_fsdp: False -> True"]
    assert all(line.is_allowed(()) for line in lines)


def test_a_longer_run_passes_where_the_decay_ends_as_before() -> None:
    fixed_end = Settings(MODEL, TrainConfig(max_iters=10, lr_decay_iters=50), 32, "a" * 64)
    (longer,) = changes(fixed_end, after(max_iters=20, lr_decay_iters=50))
    assert longer.is_allowed(())
    assert changes(fixed_end, after(max_iters=10, lr_decay_iters=40))[0].is_allowed(()) is False


def test_a_longer_run_whose_decay_follows_it_is_another_rate() -> None:
    longer, end = changes(BEFORE, after(max_iters=4000))
    assert longer.is_allowed(())
    assert str(end) == "end of the learning rate's decay: 2000 -> 4000"
    assert not end.is_allowed(())
    assert end.is_allowed({"max_iters"})


def test_the_end_of_the_decay_is_compared_and_not_how_it_is_written() -> None:
    assert changes(BEFORE, after(lr_decay_iters=2000)) == []


def test_a_batch_divided_otherwise_is_the_same_batch() -> None:
    lines = changes(BEFORE, after(batch_size=2, gradient_accumulation_steps=2))
    assert len(lines) == 2
    assert all(line.is_allowed(()) for line in lines)


def test_another_batch_over_all_ranks_is_refused_also_where_only_the_ranks_changed() -> None:
    (change,) = changes(BEFORE, after(batch=64))
    assert str(change).endswith(": 32 -> 64")
    assert not change.is_allowed(())
    assert change.is_allowed({"gradient_accumulation_steps"})


def test_an_old_checkpoint_without_a_batch_is_taken_at_its_settings() -> None:
    unknown = Settings(MODEL, TrainConfig(), 0, "a" * 64)
    assert changes(unknown, after(batch=64)) == []


def test_other_data_is_named_by_its_fingerprint() -> None:
    (change,) = changes(BEFORE, after(fingerprint="b" * 64))
    assert str(change) == f"data (fingerprint): {'a' * 12} -> {'b' * 12}"
    assert not change.is_allowed(MAY_BE_ALLOWED - {"dataset"})
    assert change.is_allowed({"dataset"})
