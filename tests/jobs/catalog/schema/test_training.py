"""Every key of a training is also a flag of the trainer, with one line of help."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from jobctl.jobs.catalog.flags import schema_fields, settings
from jobctl.jobs.catalog.schema import TrainConfig

DEFAULTS: dict[str, Any] = msgspec.to_builtins(TrainConfig())


@pytest.mark.parametrize("key", TrainConfig.__struct_fields__)
def test_the_default_of_a_key_comes_back_from_the_command_line(key: str) -> None:
    assert settings([(key, str(DEFAULTS[key]))]) == {key: DEFAULTS[key]}
    assert schema_fields()[key][1]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_iters", 0),
        ("batch_size", 0),
        ("block_size", 0),
        ("learning_rate", -1e-4),
        ("grad_clip", -1.0),
        ("dtype", "float64"),
        ("optimizer", "sdg"),
        ("hang_timeout", 0),
    ],
)
def test_an_impossible_value_is_refused(key: str, value: object) -> None:
    with pytest.raises(msgspec.ValidationError, match=f"at `\\$.{key}`"):
        msgspec.convert({key: value}, TrainConfig)
