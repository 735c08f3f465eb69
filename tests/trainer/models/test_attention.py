from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from jobctl.jobs.core.errors import UserError
from jobctl.trainer.models import attention as module
from jobctl.trainer.models.attention import (
    Attention,
    FlashAttention,
    ManualAttention,
    SdpaAttention,
    choose_attention,
)

CPU = torch.device("cpu")


def inputs(
    queries: int = 9, keys: int = 9, heads: int = 4, key_heads: int = 2, size: int = 8
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, queries, heads, size), (2, keys, key_heads, size), (2, keys, key_heads, size)]
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes
    ]


def by_hand(q: Tensor, k: Tensor, v: Tensor, ids: Tensor | None = None) -> Tensor:
    """One query at a time."""
    out = torch.zeros_like(q)
    groups = q.shape[2] // k.shape[2]
    offset = k.shape[1] - q.shape[1]
    for b in range(q.shape[0]):
        for t in range(q.shape[1]):
            seen = [s for s in range(t + offset + 1) if ids is None or ids[b, s] == ids[b, t + offset]]
            for h in range(q.shape[2]):
                scores = torch.stack([q[b, t, h] @ k[b, s, h // groups] for s in seen]) / math.sqrt(
                    q.shape[-1]
                )
                out[b, t, h] = scores.softmax(0) @ v[b, seen, h // groups]
    return out


def backends() -> list[Attention]:
    return [choose_attention(name, CPU, torch.float32, 8) for name in ("manual", "sdpa")]


@pytest.mark.parametrize("attention", backends(), ids=lambda a: a.name)
@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("queries", [1, 3, 9])
@pytest.mark.parametrize("documents", [False, True])
def test_every_backend_is_the_formula(
    attention: Attention, key_heads: int, queries: int, documents: bool
) -> None:
    tensors = inputs(queries=queries, key_heads=key_heads)
    ids = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2, 2], [4, 4, 4, 4, 4, 4, 4, 4, 9]]) if documents else None
    expected = by_hand(*tensors, ids)
    out = attention(*tensors, document_ids=ids)
    assert out.dtype == torch.float64
    torch.testing.assert_close(out, expected)
    upstream = torch.randn_like(out)
    wanted = torch.autograd.grad(expected, tensors, upstream)
    for one, other in zip(torch.autograd.grad(out, tensors, upstream), wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_the_reference_is_float32_even_under_autocast() -> None:
    tensors = [t.detach().float() for t in inputs()]
    with torch.autocast("cpu", torch.bfloat16):
        out = ManualAttention()(*tensors)
    torch.testing.assert_close(out, by_hand(*tensors))


@pytest.mark.parametrize(
    ("backend", "name"), [("auto", "sdpa(cpu)"), ("sdpa", "sdpa(cpu)"), ("manual", "manual")]
)
def test_the_name_says_what_runs(backend: str, name: str) -> None:
    assert choose_attention(backend, CPU, torch.bfloat16).name == name


@pytest.mark.parametrize("backend", ["cudnn", "flash_attn_2", "flash_attn_3", "flash_attn_4"])
def test_a_backend_that_cannot_run_says_why_and_what_can(backend: str) -> None:
    with pytest.raises(UserError, match=f"{backend}: it needs an NVIDIA GPU") as caught:
        choose_attention(backend, CPU, torch.bfloat16)
    assert "auto" in caught.value.hint
    assert caught.value.code == 2


def test_a_misspelt_backend_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'flash_attn_2'"):
        choose_attention("flash_atn_2", CPU, torch.bfloat16)


def test_every_backend_of_the_schema_is_known() -> None:
    from typing import get_args

    from jobctl.jobs.catalog.schema import AttentionBackend

    assert set(get_args(AttentionBackend)) == set(module.BACKENDS)


def test_choosing_leaves_the_random_state_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    choose_attention("auto", CPU, torch.float32)
    assert torch.equal(before, torch.get_rng_state())


def test_auto_passes_over_a_kernel_that_gives_wrong_results(monkeypatch: pytest.MonkeyPatch) -> None:
    right = SdpaAttention.__call__
    wrong = lambda self, q, k, v, document_ids=None: 1.5 * right(self, q, k, v, document_ids)  # noqa: E731
    monkeypatch.setattr(SdpaAttention, "__call__", wrong)
    assert choose_attention("auto", CPU, torch.float32).name == "manual"
    with pytest.raises(UserError, match=r"off by .*% from the plain formula"):
        choose_attention("sdpa", CPU, torch.float32)


@pytest.mark.parametrize(
    ("capability", "first"),
    [((8, 0), "flash_attn_2"), ((8, 6), "flash_attn_2"), ((9, 0), "cudnn"), ((10, 0), "cudnn")],
)
def test_auto_order_by_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], first: str) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    order = module.automatic_order(torch.device("cuda"))
    assert order[0] == first
    assert order[-1] == "manual"
    assert ("flash_attn_3" in order) == (capability[0] == 9)


@pytest.mark.parametrize("returns_tuple", [False, True])
def test_flash_attn_gets_its_layout_and_no_documents(returns_tuple: bool) -> None:
    def package(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> object:
        assert causal
        out = ManualAttention()(q, k, v)
        return (out, None) if returns_tuple else out

    flash = FlashAttention(2, package)
    tensors = inputs()
    torch.testing.assert_close(flash(*tensors), by_hand(*tensors))
    module.check_against_reference(flash, CPU, torch.float32, 8, documents=False)
    with pytest.raises(UserError, match="flash_attn_2 cannot mask documents"):
        flash(*tensors, document_ids=torch.zeros(2, 9, dtype=torch.int64))


def test_masking_documents_passes_over_what_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    blind = FlashAttention(2, lambda *_, **__: None)
    built = {"sdpa": blind, "manual": ManualAttention()}
    monkeypatch.setattr(module, "build_attention", lambda name, *_: built[name])
    assert choose_attention("auto", CPU, torch.float32, documents=False) is blind
    chosen = choose_attention("auto", CPU, torch.float32, documents=True)
    assert chosen.name == "manual"
    assert chosen.passed_over.startswith("sdpa: attention backend ")
    with pytest.raises(UserError, match=r"documents masked: sdpa: .*cannot mask documents"):
        choose_attention("sdpa", CPU, torch.float32, documents=True)
