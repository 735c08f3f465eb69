"""AdamW as torch has it."""

from __future__ import annotations

import torch

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.trainer.optim.groups import parameter_groups
from jobctl.trainer.optim.registry import build_optimizer
from jobctl.trainer.optim.torch_adapter import TorchOptimizer
from tests.trainer.models import tiny

TRAIN = TrainConfig(learning_rate=1e-2, weight_decay=0.5, beta1=0.8, beta2=0.9, adam_eps=1e-7)
ONE = torch.ones(())
NO = torch.tensor(False)


def test_the_optimizer_is_told_what_the_run_says() -> None:
    optimizer = build_optimizer(tiny.model("gpt2"), TRAIN)
    assert isinstance(optimizer, TorchOptimizer)
    assert [(group["name"], group["weight_decay"]) for group in optimizer.groups] == [
        ("decay", 0.5),
        ("no_decay", 0.0),
    ]
    for group in optimizer.groups:
        assert (group["lr"], group["betas"], group["eps"]) == (1e-2, (0.8, 0.9), 1e-7)


def test_an_empty_group_is_left_out() -> None:
    layer = torch.nn.Linear(2, 2, bias=False)
    groups = parameter_groups(dict(layer.named_parameters()), 0.1)
    assert [group["name"] for group in groups] == ["decay"]


def test_one_step_is_adamw() -> None:
    """theta · (1 - lr · decay) - lr · sign(g), since the first bias-corrected moments are g and g²."""
    model = tiny.model("qwen3")
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(model, TRAIN)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter).sign()
    optimizer.step(ONE, NO, 1e-2)
    for name, parameter in model.named_parameters():
        decay = 0.5 if parameter.ndim >= 2 else 0.0
        expected = before[name] * (1 - 1e-2 * decay) - 1e-2 * parameter.grad  # type: ignore[operator]
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-4, atol=1e-5, msg=name)
