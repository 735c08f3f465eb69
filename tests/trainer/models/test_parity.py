"""The same weights give the logits and the gradients of ``transformers``."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.trainer.models import tiny
from trainer.attention import choose_attention
from trainer.hf import from_hf

CPU = torch.device("cpu")


@pytest.mark.parametrize("backend", ["manual", "sdpa"])
@pytest.mark.parametrize("length", [1, 17, 64])
@pytest.mark.parametrize("shape", tiny.SHAPES)
def test_logits_are_those_of_transformers(shape: str, length: int, backend: str) -> None:
    attention = choose_attention(backend, CPU, torch.float32, head_dim=16)
    ours, words = tiny.model(shape, attention), tiny.tokens(length=length)
    with torch.no_grad():
        torch.testing.assert_close(ours(words), tiny.twin(ours)(words).logits, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("backend", ["manual", "sdpa"])
@pytest.mark.parametrize("shape", tiny.SHAPES)
def test_gradients_are_those_of_transformers(shape: str, backend: str) -> None:
    ours = tiny.model(shape, choose_attention(backend, CPU, torch.float32, head_dim=16))
    theirs = tiny.twin(ours)
    words, targets = tiny.tokens(3, 33), tiny.tokens(3, 33, seed=2)
    targets[0, :5] = -100
    ours(words, targets).backward()
    F.cross_entropy(theirs(words).logits.flatten(0, 1), targets.flatten()).backward()
    gradients = {
        n: p.grad for n, p in theirs.named_parameters() if p.grad is not None and not n.endswith(".bias")
    }
    expected = from_hf(ours.config, gradients)
    assert expected.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-5 * scale, msg=name)
