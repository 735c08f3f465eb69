"""Each fused kernel against its plain reference in float64, and whole models against the plain path.

On a GPU in bfloat16 and float32; without one Triton's interpreter runs them, in float32 (tests/conftest.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.trainer.fused import activation, cross_entropy, cublaslt, embedding, fp8, linear
from jobctl.trainer.fused import add_norm as norm
from jobctl.trainer.fused import rotated_heads as rotary
from jobctl.trainer.fused.fused_decoder import FusedDecoder
from jobctl.trainer.models import loss, products
from jobctl.trainer.models.attention import ManualAttention
from jobctl.trainer.optim.fused_adamw import FusedAdamW
from jobctl.trainer.optim.groups import parameter_groups
from tests.trainer.models import tiny

HAS_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda", 0) if HAS_GPU else torch.device("cpu")
TYPES = [torch.float32, torch.bfloat16] if HAS_GPU else [torch.float32]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 6e-3}


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, device=DEVICE).to(dtype)


def error(got: Tensor, expected: Tensor) -> float:
    got = got.detach().double()
    expected = expected.detach().double()
    return float((got - expected).norm() / expected.norm())


def results(
    function: Callable[..., Any], inputs: Sequence[Tensor], upstream: Sequence[Tensor]
) -> list[Tensor]:
    """Outputs, and the gradients of the inputs."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    out = function(*leaves)
    outs = list(out) if isinstance(out, tuple) else [out]
    torch.autograd.backward(outs, list(upstream))
    return [o.detach() for o in outs] + [leaf.grad for leaf in leaves if leaf.grad is not None]


def agree(
    fast: Callable[..., Any], plain: Callable[..., Any], inputs: Sequence[Tensor], upstream: Sequence[Tensor]
) -> None:
    got = results(fast, inputs, upstream)
    expected = results(plain, [i.double() for i in inputs], [u.double() for u in upstream])
    tolerance = TOLERANCE[inputs[0].dtype]
    assert len(got) == len(expected)
    assert max(map(error, got, expected)) < tolerance


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_add_norm(kind: norm.Kind, size: int, dtype: torch.dtype) -> None:
    x = random(2, 5, size, dtype=dtype)
    delta = random(2, 5, size, dtype=dtype)
    weight = random(size)
    up = [random(2, 5, size, dtype=dtype) for _ in range(2)]
    agree(
        lambda a, b, w: norm.add_norm(a, b, w, 1e-5, kind),
        lambda a, b, w: norm.plain_add_norm(a, b, w, 1e-5, kind), [x, delta, weight], up,
    )  # fmt: skip
    agree(
        lambda a, w: norm.add_norm(a, None, w, 1e-5, kind),
        lambda a, w: norm.plain_add_norm(a, None, w, 1e-5, kind), [x, weight], up,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_activations(dtype: torch.dtype) -> None:
    x = random(3, 5, 192, dtype=dtype)
    agree(activation.swiglu, activation.plain_swiglu, [x], [random(3, 5, 96, dtype=dtype)])
    projection = linear.Projection([nn.Parameter(random(32, 192))], dtype)
    (weight,) = projection.weights
    projection.working.copy_(weight.detach())
    agree(
        lambda a: activation.gelu_project(a, projection),
        lambda a: activation.plain_gelu(a) @ projection.working.double().t(), [x], [random(3, 5, 32, dtype=dtype)],
    )  # fmt: skip


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("normed", [False, True])
def test_rotated(normed: bool, dtype: torch.dtype) -> None:
    heads = 4
    kv_heads = 2
    size = 16
    length = 9
    cos = random(12, size // 2)
    sin = random(12, size // 2)
    gains = [random(size), random(size)] if normed else []

    def call(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda qkv, *w: function(qkv, cos, sin, *(w or (None, None)), heads, kv_heads, 1e-5)

    qkv = random(2, length, (heads + 2 * kv_heads) * size, dtype=dtype)
    up = [random(2, length, count, size, dtype=dtype) for count in (heads, kv_heads, kv_heads)]
    agree(call(rotary.rotated), call(rotary.plain_rotated), [qkv, *gains], up)


def test_rows_are_added_to_the_embedding_gradient_however_often_a_token_occurs() -> None:
    table = random(11, 40)
    rows = random(60, 40)
    tokens = torch.randint(0, 11, (60,), device=DEVICE)
    tokens[:40] = 3
    expected = table.double()
    embedding.plain_add_rows(expected, tokens, rows)
    embedding.add_rows(table, tokens, rows)
    assert error(table, expected) < 1e-6


def test_softmax_gives_losses_and_their_gradient_and_leaves_ignored_targets_out() -> None:
    logits = 3 * random(10, 300)
    targets = torch.randint(0, 300, (10,), device=DEVICE)
    targets[3] = -100
    scale = torch.tensor(0.25, device=DEVICE)
    expected = logits.double()
    expected_losses = cross_entropy.plain_softmax_(expected, targets, scale.double())
    losses = cross_entropy.softmax_(logits, targets, scale, block=64)
    assert error(losses, expected_losses) < 1e-6
    assert error(logits, expected) < 1e-5
    assert not logits[3].any()


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_the_chunked_loss_through_the_softmax_kernel_is_the_plain_one(dtype: torch.dtype) -> None:
    hidden, weight = random(300, 32, dtype=dtype), (random(200, 32) / 32**0.5).to(dtype)  # logits of about 1
    targets = torch.randint(0, 200, (300,), device=DEVICE)
    targets[7] = loss.IGNORED
    chunked = loss.CrossEntropy(200 * 128, cross_entropy.losses_and_gradient)

    def plain(h: Tensor, w: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(h @ w.t(), targets, ignore_index=loss.IGNORED)

    agree(lambda h, w: chunked(h, w, targets), plain, [hidden, weight], [torch.tensor(0.5, device=DEVICE)])


def test_a_product_taken_apart_gives_the_gradients_of_the_whole_one() -> None:
    weights = [nn.Parameter(random(rows, 24)) for rows in (16, 8, 8)]
    projection = linear.Projection(weights, torch.float32)
    projection.working.copy_(torch.cat([w.detach() for w in weights]))
    x = random(2, 5, 24)
    up = [random(2, 5, rows) for rows in (16, 8, 8)]
    agree(
        lambda a: linear.project_apart(a, projection),
        lambda a: (a @ projection.working.double().t()).split((16, 8, 8), dim=-1), [x], up,
    )  # fmt: skip
    for weight, upstream in zip(weights, up, strict=True):
        assert weight.grad is not None
        assert error(weight.grad, torch.einsum("btr,btc->rc", upstream.double(), x.double())) < 1e-5


@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_is_torchs_and_adds_what_it_is_given(transposed: bool) -> None:
    """On Hopper by cuBLASLt, elsewhere by torch."""
    left, right, added = (random(*shape, dtype=TYPES[-1]) for shape in ((512, 256), (256, 384), (512, 384)))
    if transposed:
        right = right.t().contiguous().t()
    whole = left.double() @ right.double()
    assert (
        error(cublaslt.product(left.view(2, 256, 256), right).view(512, 384), whole) < TOLERANCE[left.dtype]
    )
    assert error(cublaslt.product(left, right, added), added.double() + whole) < TOLERANCE[left.dtype]
    if HAS_GPU and cublaslt.is_hopper(DEVICE):
        assert cublaslt.product_for(512, 384, 256, transposed, False, DEVICE) is not None


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        (["192x192", "128x256", "256x128"], "256x128"),  # GPT-2, and all wide products of Qwen3 and LLaMA-3
        (["192x192", "128x256"], "192x192"),
        (["256x128", "192x192"], "256x128"),  # Qwen3's and LLaMA-3's products of 2048 columns
        (["128x128", "256x128"], "128x128"),  # with GELU's gradient
    ],
)
def test_tiles_of_256_by_128_stand_in_for_those_of_192_by_192(offered: list[str], taken: str) -> None:
    numbers = {
        "128x128": 20, "128x256": 23, "256x128": cublaslt.TILE_256X128, "192x192": cublaslt.TILE_192X192,
    }  # fmt: skip
    assert offered[cublaslt.preferred([numbers[tile] for tile in offered])] == taken


@pytest.mark.skipif(not HAS_GPU or not cublaslt.is_hopper(DEVICE), reason="needs a Hopper GPU")
@pytest.mark.parametrize(
    ("width", "heads", "inner"), [(2304, 6912, 6144), (2048, 4096, 6144), (2048, 4096, 7168)], ids=str
)
def test_the_catalogues_gated_models_get_tiles_of_256_by_128(width: int, heads: int, inner: int) -> None:
    """LLaMA-2, Qwen3 and LLaMA-3: forward, and the gradients of the inputs."""
    for n, k in [(heads, width), (width, width), (2 * inner, width), (width, inner)]:
        for columns, summed, transposed in [(n, k, True), (k, n, False)]:
            found = cublaslt.product_for(32768, columns, summed, transposed, False, DEVICE)
            assert found is not None
            assert found.algorithm.tile == cublaslt.TILE_256X128, (columns, summed)


def test_a_product_in_pieces_is_the_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    left = random(64, 24, dtype=TYPES[-1])
    right = random(64, 40, dtype=TYPES[-1])
    whole = left.double().t() @ right.double()
    if HAS_GPU:
        out = torch.empty(24, 40, device=DEVICE)
        monkeypatch.setattr(products, "pieces_pay", lambda *_: True)
        products.product_into(out, left.t(), right)
        assert error(out, whole) < 1e-5
        products.add_product_into(out, left.t(), right)
        assert error(out, 2 * whole) < 1e-5
    else:
        assert error(torch.bmm(*products.pieces(left.t(), right)).sum(0), whole) < 1e-5


@pytest.mark.parametrize(
    ("shape", "pays"),
    [((2304, 2304, 65536), True), ((2304, 2304, 4096), False), ((2048, 2048, 32768), False),
     ((9216, 2304, 65536), False), ((4096, 2048, 32768), False)],
)  # fmt: skip
def test_pieces_are_for_results_that_would_leave_multiprocessors_idle(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int], pays: bool
) -> None:
    h200 = type("Properties", (), {"multi_processor_count": 132})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: h200)
    assert products.pieces_pay.__wrapped__(*shape, torch.device("cuda", 0)) == pays


def test_float8_rounding_is_the_same_both_ways_and_close() -> None:
    scales = fp8.Scales(DEVICE)
    forward = scales.place(fp8.FORWARD)
    backward = scales.place(fp8.BACKWARD)
    scales.allocate()
    x = random(100, 144)
    dout = random(100, 72)
    for mode, exact in ((0, x), (1, activation.plain_swiglu(x)), (2, activation.plain_gelu(x))):
        out, turned = scales.round(x, forward, mode)
        assert error(out.float() * scales.inverse[forward], exact) < 0.1
        assert error(turned.float().t(), out.float()) < 0.02
    leaf = x.clone().requires_grad_()
    activation.plain_swiglu(leaf).backward(dout)
    out, turned = scales.round_gradient(x, dout, backward, gated=True)
    assert leaf.grad is not None
    assert error(out.float() * scales.inverse[backward], leaf.grad) < 0.2
    assert error(turned.float().t(), out.float()) < 0.05
    scales.end_step()
    assert not scales.amax.any()


def test_float8s_first_scales_are_measured_though_a_step_without_a_forward_pass_came_before() -> None:
    scales = fp8.Scales(DEVICE)
    gradient = scales.place(fp8.BACKWARD)
    scales.allocate()
    scales.end_step()
    small = 1e-9 * random(64, 64)
    rounded, _ = scales.round(small, gradient)
    assert error(rounded.float() * scales.inverse[gradient], small) < 0.2
    scales.end_step()
    assert not scales.measuring


def test_adamw_is_torchs_with_the_factor_applied_and_skips_when_told() -> None:
    ours = {"matrix": nn.Parameter(random(50, 60)), "gain": nn.Parameter(random(60))}
    theirs = {name: nn.Parameter(weight.detach().clone()) for name, weight in ours.items()}
    projection = linear.Projection([ours["matrix"]], torch.bfloat16)
    train = TrainConfig(weight_decay=0.1, beta1=0.9, beta2=0.95, adam_eps=1e-8)
    fast = FusedAdamW(ours, train, [projection])
    plain = torch.optim.AdamW(parameter_groups(theirs, 0.1), lr=1e-2, betas=(0.9, 0.95), eps=1e-8)
    factor = torch.tensor(0.5, device=DEVICE)

    for step in range(5):
        for name, weight in ours.items():
            weight.grad = torch.randn_like(weight)
            theirs[name].grad = weight.grad * 0.5
        fast.step(factor, torch.tensor(step == 3, device=DEVICE), 1e-2)
        if step != 3:
            plain.step()

    for name, weight in ours.items():
        assert error(weight, theirs[name]) < 1e-6
        for key, value in plain.state[theirs[name]].items():
            torch.testing.assert_close(fast.state()[f"{name}.{key}"].cpu(), value.cpu())
    assert error(projection.working, ours["matrix"]) < 0.01


@pytest.mark.parametrize("shape", tiny.FUSED)
def test_a_fused_model_has_the_plain_ones_gradients_over_two_micro_steps(shape: str) -> None:
    model = tiny.model(shape, head_dim=16, hidden_size=64, vocab_size=256).to(DEVICE)
    batches = [(tiny.tokens(2, 16, seed=s).to(DEVICE) % 256, tiny.tokens(2, 16, seed=s + 9).to(DEVICE) % 256)
               for s in (1, 2)]  # fmt: skip
    for tokens, targets in batches:
        (model(tokens, targets) / 2).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    fused = FusedDecoder(model, ManualAttention(), torch.float32)
    model.fused = fused.hidden_states
    model.cross_entropy = fused.cross_entropy
    for tokens, targets in batches:
        (model(tokens, targets) / 2).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert error(parameter.grad, expected[name]) < 1e-4, name
