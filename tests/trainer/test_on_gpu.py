"""What only a GPU can show: that every kernel it has gives the reference's numbers, compiled as well."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from jobctl.jobs.core.errors import UserError
from jobctl.trainer.models import cudnn_attention
from jobctl.trainer.models.attention import (
    BACKENDS,
    Attention,
    ManualAttention,
    SdpaAttention,
    check_against_reference,
    choose_attention,
)
from jobctl.trainer.models.building import build_model
from jobctl.trainer.models.loss import CrossEntropy, losses_and_gradient
from tests.trainer.models import tiny

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
GPU = torch.device("cuda")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_runs_or_says_why_not(backend: str, dtype: torch.dtype) -> None:
    try:
        attention = choose_attention(backend, GPU, dtype)
    except UserError as error:
        print(error)
        if backend in ("auto", "sdpa", "manual"):
            raise
        return
    print(f"{backend} {dtype}: {attention.name}")
    check_against_reference(attention, GPU, dtype, 128, documents=False)
    if attention.supports_documents:
        check_against_reference(attention, GPU, dtype, 128, documents=True)


def test_auto_takes_cudnn_on_hopper() -> None:
    if torch.cuda.get_device_capability()[0] == 9:
        assert choose_attention("auto", GPU, torch.bfloat16).name == "sdpa(cudnn)"


def gradients(attention: Attention, inputs: list[Tensor], ids: Tensor | None) -> list[Tensor]:
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    torch.autograd.backward(attention(leaves[0], leaves[1], leaves[2], ids), inputs[0])
    return [leaf.grad for leaf in leaves if leaf.grad is not None]


@pytest.mark.skipif(find_spec("cudnn") is None, reason="needs nvidia-cudnn-frontend")
@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("most", [cudnn_attention.MOST_WORKSPACE, 2**24, 1])
def test_cudnn_s_gradients_repeat_and_are_right_in_parts_too(
    monkeypatch: pytest.MonkeyPatch, documents: bool, most: int
) -> None:
    monkeypatch.setattr(cudnn_attention, "MOST_WORKSPACE", most)
    kernel = cudnn_attention.RepeatableCudnn()
    attention = SdpaAttention(kernel, kernel)
    shapes = [(3, 1024, 8, 128), (3, 1024, 4, 128), (3, 1024, 4, 128)]
    inputs = [torch.randn(shape, device=GPU, dtype=torch.bfloat16) for shape in shapes]
    ids = (
        torch.arange(1024, device=GPU).div(300, rounding_mode="floor").expand(3, 1024) if documents else None
    )
    first = gradients(attention, inputs, ids)
    expected = gradients(ManualAttention(), inputs, ids)
    for got, wanted in zip(first, expected, strict=True):
        assert float((got - wanted).norm() / wanted.norm()) < 2e-2
    for _ in range(10):
        assert all(map(torch.equal, gradients(attention, inputs, ids), first))


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("shape", ["gpt2", "llama-gqa", "qwen3"])
def test_a_compiled_model_agrees_with_the_reference(shape: str, documents: bool) -> None:
    """Also in bfloat16 under autocast, with a compiled loss."""
    words = tiny.tokens(2, 64).to(GPU)
    targets = tiny.tokens(2, 64, seed=2).to(GPU)
    ids = torch.arange(64, device=GPU).div(20, rounding_mode="floor").expand(2, 64) if documents else None
    reference = tiny.model(shape, head_dim=16, hidden_size=64).to(GPU)
    expected = reference(words, targets, ids)
    expected.backward()
    attention = choose_attention("sdpa", GPU, torch.bfloat16, 16)
    assert isinstance(attention, SdpaAttention)
    model = build_model(reference.config, attention).to(GPU)
    model.load_state_dict(reference.state_dict())
    for block in model.blocks:
        block.compile(fullgraph=True)
    model.cross_entropy = CrossEntropy(kernel=torch.compile(losses_and_gradient))
    with torch.autocast("cuda", torch.bfloat16):
        loss = model(words, targets, ids)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=2e-2)
    for (name, ours), theirs in zip(model.named_parameters(), reference.parameters(), strict=True):
        assert float((ours.grad - theirs.grad).norm() / theirs.grad.norm()) < 0.1, name  # type: ignore


def test_the_loss_holds_no_more_than_a_chunk() -> None:
    hidden = torch.randn(8192, 256, device=GPU, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(32_000, 256, device=GPU, requires_grad=True)
    targets = torch.randint(32_000, (8192,), device=GPU)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with torch.autocast("cuda", torch.bfloat16):
        CrossEntropy(chunk_elements=512 * 32_000)(hidden, weight, targets).backward()
    all_logits = 8192 * 32_000 * 4
    assert torch.cuda.max_memory_allocated() - before < all_logits // 2


def test_the_manual_backend_needs_no_gpu_library() -> None:
    check_against_reference(ManualAttention(), GPU, torch.bfloat16, 128, documents=True)
