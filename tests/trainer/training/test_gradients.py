"""Norms of gradients by tensor and by layer, and the factor that clips them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from jobctl.trainer.distributed import World
from jobctl.trainer.training.gradients import Gradients, clip_factor

ALONE = World(0, 1, torch.device("cpu"))
NAMES = ("embed_tokens.weight", "blocks.0.q.weight", "blocks.0.k.weight", "blocks.10.q.weight")


def parameters() -> dict[str, nn.Parameter]:
    """Return parameters whose gradients have the norms 1, 2, 3 and so on."""
    made = {name: nn.Parameter(torch.zeros(4)) for name in NAMES}
    for number, parameter in enumerate(made.values(), start=1):
        parameter.grad = torch.full((4,), number / 2)
    return made


def test_each_parameters_norm_is_measured_and_a_scaled_loss_taken_back() -> None:
    gradients = Gradients(parameters(), ALONE)
    loss = torch.tensor(5.0)
    for scale, divisor in ((None, 1), (torch.tensor(8.0), 64)):
        mean, squares = gradients.measure(loss, scale)
        assert mean is loss
        assert (squares * divisor).tolist() == pytest.approx([1.0, 4.0, 9.0, 16.0])


def test_a_parameter_without_a_gradient_is_named() -> None:
    made = parameters()
    made["blocks.0.k.weight"].grad = None
    with pytest.raises(RuntimeError, match=r"no gradient reached blocks\.0\.k\.weight"):
        Gradients(made, ALONE).measure(torch.tensor(0.0), None)


def test_ranks_with_whole_gradients_exchange_the_loss_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = []

    def all_reduce(message: torch.Tensor) -> None:
        messages.append(message.numel())
        message += 3.0  # the other rank's half of its loss

    monkeypatch.setattr("torch.distributed.all_reduce", all_reduce)
    gradients = Gradients(parameters(), World(0, 2, torch.device("cpu")))
    mean, squares = gradients.measure(torch.tensor(4.0), None)
    assert (messages, mean.item()) == ([1], 5.0)
    assert squares.tolist() == pytest.approx([1.0, 4.0, 9.0, 16.0])


def test_the_tensors_of_a_block_are_one_layer() -> None:
    layers = Gradients(parameters(), ALONE).by_layer([1.0, 9.0, 16.0, 4.0])
    assert layers == {"embed_tokens.weight": 1.0, "blocks.0": 5.0, "blocks.10": 2.0}


def test_gradients_are_freed_and_not_zeroed() -> None:
    made = parameters()
    Gradients(made, ALONE).clear()
    assert [parameter.grad for parameter in made.values()] == [None] * 4


def test_only_a_norm_above_the_limit_is_clipped() -> None:
    assert clip_factor(torch.tensor(0.5), 1.0).item() == 1.0
    assert clip_factor(torch.tensor(4.0), 1.0).item() == pytest.approx(0.25, rel=1e-5)
    assert clip_factor(torch.tensor(0.0), 1.0).item() == 1.0
