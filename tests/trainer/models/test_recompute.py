"""What backward computes again changes no bit, for every family, plain, compiled, sharded and fused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jobctl.jobs.catalog.schema import ActivationCheckpointing
from jobctl.trainer import compilers
from jobctl.trainer.models.attention import ManualAttention, choose_attention
from jobctl.trainer.models.recompute import KEPT, checkpoint_blocks, kept_operations
from tests.trainer.corpus import SHARDINGS, arguments, write_corpus
from tests.trainer.models import tiny
from tests.trainer.running import losses, on_ranks, train

WAYS: tuple[ActivationCheckpointing, ...] = ("selective", "full")
CPU = torch.device("cpu")


def loss_and_gradients(
    shape: str, how: ActivationCheckpointing, backend: str = "sdpa", compiled: bool = False
) -> dict[str, Tensor]:
    """Return the gradients of two micro-steps by name, and the second loss as ``loss``."""
    attention = ManualAttention() if backend == "manual" else choose_attention("sdpa", CPU, torch.float32, 16)
    model = tiny.model(shape, attention, head_dim=16)
    checkpoint_blocks(model.blocks, how)
    if compiled:
        for block in model.blocks:
            block.compile()
    for seed in (1, 2):
        tokens = tiny.tokens(seed=seed)
        loss = model(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
    gradients = {
        name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    assert len(gradients) == len(list(model.parameters()))
    return {**gradients, "loss": loss.detach()}


def saved_bytes(shape: str, how: ActivationCheckpointing) -> int:
    """Return the bytes that autograd keeps of the blocks' forward pass, weights not counted."""
    model = tiny.model(shape, choose_attention("sdpa", CPU, torch.float32, 16), head_dim=16)
    checkpoint_blocks(model.blocks, how)
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.randn(2, 64, 48, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        for block in model.blocks:
            x = block(x)
    return sum(kept.values())


@pytest.mark.parametrize("backend", ["sdpa", "manual"])
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("shape", tiny.SHAPES)
def test_losses_and_gradients_are_the_same_bits(
    shape: str, how: ActivationCheckpointing, backend: str
) -> None:
    expected = loss_and_gradients(shape, "none", backend)
    got = loss_and_gradients(shape, how, backend)
    assert all(torch.equal(got[name], expected[name]) for name in expected)


@pytest.mark.skipif(bool(compilers.cpu_compile_lacks()), reason="this machine has no compiler for the CPU")
def test_a_compiled_block_computes_the_same() -> None:
    expected = loss_and_gradients("qwen3", "none", compiled=True)
    for how in WAYS:
        got = loss_and_gradients("qwen3", how, compiled=True)
        for name, gradient in expected.items():
            torch.testing.assert_close(got[name], gradient, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("shape", tiny.ONE_OF_EACH)
def test_full_keeps_one_tensor_a_block(shape: str) -> None:
    assert saved_bytes(shape, "full") == 2 * 2 * 64 * 48 * 4


def test_products_are_kept_and_scores_are_not() -> None:
    names = {str(operation) for operation in kept_operations()}
    assert "aten.mm.default" in names
    assert "bmm" not in KEPT
    assert len(names) >= 4


def test_a_cache_is_filled_once() -> None:
    from jobctl.trainer.sample import generate

    texts = []
    for how in ("none", "full"):
        model = tiny.model("qwen3")
        checkpoint_blocks(model.blocks, how)  # type: ignore[arg-type]
        texts.append([int(token) for token in generate(model, tiny.tokens(1, 5), 6, temperature=0.0)])
    assert texts[0] == texts[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("data") / "data")


@pytest.mark.parametrize("how", WAYS)
def test_a_training_is_the_same_and_may_change_its_mind(data: Path, tmp_path: Path, how: str) -> None:
    assert train(arguments(data, tmp_path / "none")) == 0
    changed = {"activation_checkpointing": how}
    assert train(arguments(data, tmp_path / how, **changed, max_iters=3)) == 0
    assert train(arguments(data, tmp_path / how)) == 0
    assert losses(tmp_path / how) == losses(tmp_path / "none")


def test_every_sharding_trains_the_same(data: Path, tmp_path: Path) -> None:
    commands: list[Sequence[str]] = []
    for name, sharding in SHARDINGS.items():
        for how in ("none", *WAYS):
            flags: dict[str, Any] = {**sharding, "activation_checkpointing": how, "max_iters": 3}
            commands.append(arguments(data, tmp_path / name / how, **flags))
    assert on_ranks(2, *commands) == [0] * len(commands)
    for name in SHARDINGS:
        for how in WAYS:
            assert losses(tmp_path / name / how) == losses(tmp_path / name / "none")
