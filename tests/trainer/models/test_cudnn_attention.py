"""The backward pass through cuDNN's own interface, with a plan that stands in for cuDNN's."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from jobctl.jobs.core.errors import UserError
from jobctl.trainer.models import cudnn_attention as module
from jobctl.trainer.models.attention import visible

CPU = torch.device("cpu")


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def formula(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Attention of ``[B, H, T, D]``."""
    groups = q.shape[1] // k.shape[1]
    length = q.shape[2]
    k = k.repeat_interleave(groups, 1)
    v = v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    if bias is None:
        bias = torch.zeros(length, length).masked_fill(~visible(length, length, None, CPU), float("-inf"))
    out: Tensor = (scores + bias).softmax(-1) @ v
    return out


class PlanOfTheFormula:
    """What cuDNN would do, by autograd; its workspace is as large as the scores, in elements."""

    def __init__(self, layouts: tuple[module.Layout, ...], device: torch.device) -> None:
        batch, heads, length, _ = layouts[0].shape
        self.layouts = layouts
        self.workspace_bytes = batch * heads * length * length

    def run(self, tensors: list[Tensor]) -> None:
        assert tuple(map(module.Layout.of, tensors)) == self.layouts
        *given, dq, dk, dv = tensors
        q, k, v, _, dout, _, *bias = given
        leaves = [tensor.detach().clone().requires_grad_() for tensor in (q, k, v)]
        out = formula(leaves[0], leaves[1], leaves[2], bias[0] if bias else None)
        for target, gradient in zip((dq, dk, dv), torch.autograd.grad(out, leaves, dout), strict=True):
            target.copy_(gradient)


def problem(batch: int, heads: int, kv_heads: int, masked: bool) -> module.Problem:
    """Values lie in the product of queries, keys and values, as they do in the fused blocks."""
    length = 5
    size = 4
    q = random(batch, length, heads, size).transpose(1, 2)
    k = random(batch, length, kv_heads, size).transpose(1, 2)
    v = random(batch, length, heads + 2 * kv_heads, size)[:, :, -kv_heads:].transpose(1, 2)
    documents = torch.randint(0, 2, (batch, length)).sort(1).values
    mask = visible(length, length, documents, CPU) if masked else None
    stats = random(batch, heads, length, 1)
    empty = [torch.empty_like(t).fill_(torch.nan) for t in (q, k, v)]
    return module.Problem(q, k, v, q, random(*q.shape), stats, module.bias_of(mask, q.dtype), *empty)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("most", [10**9, 200, 100, 25, 1])
@pytest.mark.parametrize(("batch", "heads", "kv_heads"), [(4, 4, 2), (3, 6, 3), (1, 4, 1), (1, 1, 1)])
def test_gradients_in_parts_are_those_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, batch: int, heads: int, kv_heads: int, most: int, masked: bool
) -> None:
    monkeypatch.setattr(module, "plan_for", PlanOfTheFormula)
    monkeypatch.setattr(module, "MOST_WORKSPACE", most)
    asked = problem(batch, heads, kv_heads, masked)
    module.solve(asked)
    leaves = [tensor.detach().clone().requires_grad_() for tensor in (asked.q, asked.k, asked.v)]
    out = formula(leaves[0], leaves[1], leaves[2], asked.bias)
    wanted = torch.autograd.grad(out, leaves, asked.dout)
    for got, expected in zip((asked.dq, asked.dk, asked.dv), wanted, strict=True):
        torch.testing.assert_close(got, expected)


def test_no_part_needs_more_than_the_bound_where_heads_can_be_parted(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Counted(PlanOfTheFormula):
        def run(self, tensors: list[Tensor]) -> None:
            sizes.append(self.workspace_bytes)
            super().run(tensors)

    monkeypatch.setattr(module, "plan_for", Counted)
    monkeypatch.setattr(module, "MOST_WORKSPACE", 100)
    module.solve(problem(4, 4, 2, masked=False))
    assert sizes == [100, 100, 100, 100]


class FakeTensor:
    """cuDNN's tensor, which its setters return."""

    def set_output(self, _: bool) -> FakeTensor:
        return self

    def set_dim(self, _: list[int]) -> FakeTensor:
        return self

    def set_stride(self, _: list[int]) -> FakeTensor:
        return self

    def set_data_type(self, _: torch.dtype) -> FakeTensor:
        return self


class FakeGraph:
    asked: dict[str, Any]

    def tensor(self, **_: Any) -> FakeTensor:
        return FakeTensor()

    def sdpa_backward(self, **asked: Any) -> list[FakeTensor]:
        FakeGraph.asked = asked
        return [FakeTensor() for _ in range(3)]

    def get_workspace_size(self) -> int:
        return 7

    def done(self, *_: Any) -> None: ...

    validate = build_operation_graph = create_execution_plans = check_support = build_plans = done


def fake_interface() -> SimpleNamespace:
    return SimpleNamespace(
        data_type=SimpleNamespace(BFLOAT16=1, FLOAT=2), heur_mode=SimpleNamespace(A=3),
        pygraph=lambda **_: FakeGraph(), create_handle=object,
    )  # fmt: skip


@pytest.mark.parametrize("masked", [False, True])
def test_cudnn_is_asked_for_sums_in_a_fixed_order(monkeypatch: pytest.MonkeyPatch, masked: bool) -> None:
    monkeypatch.setitem(sys.modules, module.MODULE, fake_interface())
    monkeypatch.setattr(module, "handle", lambda _: object())
    tensors = [tensor.to(torch.bfloat16) for tensor in problem(2, 4, 2, masked).tensors]
    plan = module.Plan(tuple(map(module.Layout.of, tensors)), CPU)
    assert plan.workspace_bytes == 7
    assert len(plan.tensors) == len(tensors)
    assert FakeGraph.asked["use_deterministic_algorithm"] is True
    assert FakeGraph.asked["use_causal_mask"] is not masked
    assert FakeGraph.asked["attn_scale"] == 4**-0.5


def test_without_the_package_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module.MODULE, None)
    with pytest.raises(UserError, match="'nvidia-cudnn-frontend' cannot be imported"):
        module.interface()


def test_one_query_alone_is_computed_by_torch() -> None:
    q = random(2, 1, 4, 8)
    k = random(2, 6, 2, 8)
    v = random(2, 6, 2, 8)
    out = module.RepeatableCudnn()(q, k, v, mask=None, is_causal=False)
    nothing = torch.zeros(1, dtype=torch.float64)
    expected = formula(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), nothing)
    torch.testing.assert_close(out, expected.transpose(1, 2))
