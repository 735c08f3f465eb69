"""Which parameters decay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from jobctl.trainer.optim.groups import decay_groups, parameter_groups
from tests.trainer.models.tiny import SHAPES, model


def parameters() -> dict[str, nn.Parameter]:
    return {
        "matrix": nn.Parameter(torch.ones(3, 2)),
        "gain": nn.Parameter(torch.ones(3)),
        "frozen": nn.Parameter(torch.ones(3, 3), requires_grad=False),
    }


def test_matrices_decay_and_gains_do_not() -> None:
    decayed, exempt = decay_groups(parameters())

    assert list(decayed) == ["matrix"]
    assert list(exempt) == ["gain"]


def test_only_the_first_group_has_the_rate() -> None:
    groups = parameter_groups(parameters(), 0.1)

    assert [(group["name"], group["weight_decay"]) for group in groups] == [("decay", 0.1), ("no_decay", 0.0)]


def test_an_empty_group_is_not_given_to_torch() -> None:
    """torch refuses a group without parameters."""
    groups = parameter_groups({"matrix": nn.Parameter(torch.ones(2, 2))}, 0.1)

    assert [group["name"] for group in groups] == ["decay"]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_parameter_of_a_family_is_in_one_group(shape: str) -> None:
    named = dict(model(shape).named_parameters())
    decayed, exempt = decay_groups(named)

    assert sorted([*decayed, *exempt]) == sorted(named)
    assert all(name.endswith(("norm.weight", "bias")) for name in exempt)
    assert not any("norm" in name for name in decayed)
    assert "embed_tokens.weight" in decayed
