"""float8: the scales of a run that goes on are those of one that never stopped, and products are close to exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from jobctl.trainer.distributed import World
from jobctl.trainer.fused import activation, fp8
from jobctl.trainer.fused.fp8 import BACKWARD, FORWARD, HISTORY, Fp8Projection, Scales
from jobctl.trainer.fused.linear import Projection
from tests.trainer.fused.reference import DEVICE, HAS_GPU, error, random
from tests.trainer.running import on_ranks

CPU = torch.device("cpu")


def scales(ranks: int = 1) -> Scales:
    made = Scales(CPU, ranks)
    made.place(FORWARD)
    made.place(BACKWARD)
    made.allocate()
    return made


def train(run: Scales, steps: range) -> None:
    """As many steps, each of which measures other values."""
    for step in steps:
        largest = torch.tensor([1.0 + step % 5, 1e-3 * (1 + step % 7)])
        if run.measuring:
            for place in range(2):
                run.measure(place, largest[place])
        run.amax.copy_(largest)
        run.end_step()


def state(run: Scales) -> list[Tensor]:
    return [run.scale.clone(), run.inverse.clone(), run.history.clone()]


@pytest.mark.parametrize("before", [1, 3, HISTORY + 2])
def test_a_run_that_resumes_has_the_scales_of_the_one_that_went_on(before: int) -> None:
    whole = scales()
    resumed = scales()
    train(whole, range(before))
    resumed.history.copy_(whole.history)
    resumed.resume()
    assert not resumed.measuring
    assert all(map(torch.equal, state(resumed), state(whole)))
    train(whole, range(before, before + 4))
    train(resumed, range(before, before + 4))
    assert all(map(torch.equal, state(resumed), state(whole)))


def test_an_evaluation_leaves_no_trace_in_the_scales() -> None:
    whole = scales()
    resumed = scales()
    train(whole, range(3))
    whole.amax.fill_(1000.0)
    whole.forget_evaluation()
    resumed.history.copy_(whole.history)
    resumed.resume()

    for run in (whole, resumed):
        run.amax.copy_(torch.maximum(run.amax, torch.tensor([1.0, 1e-3])))
        run.end_step()

    assert all(map(torch.equal, state(resumed), state(whole)))


def test_without_a_history_the_first_step_measures() -> None:
    resumed = scales()
    resumed.resume()
    assert resumed.measuring


def test_an_overflow_is_no_scale() -> None:
    run = scales()
    train(run, range(2))
    before = run.scale.clone()
    run.amax.fill_(float("inf"))
    run.end_step()
    assert torch.equal(run.scale, before)


def of_rank(command: Sequence[str], world: World) -> dict[str, Any]:
    run = scales(world.size)
    run.amax.copy_(torch.tensor([1.0 + world.rank, 4.0 - world.rank]))
    run.end_step()
    return {"history": run.history[0].tolist()}


def test_all_ranks_take_the_largest_value_of_any() -> None:
    (result,) = cast("list[dict[str, Any]]", on_ranks(2, [], action=of_rank))
    assert result["history"] == [2.0, 4.0]


def test_float8s_first_scales_are_measured_though_a_step_without_a_forward_pass_came_before() -> None:
    scales = Scales(DEVICE)
    gradient = scales.place(BACKWARD)
    scales.allocate()
    scales.end_step()
    small = 1e-9 * random(64, 64)
    rounded, _ = scales.round(small, gradient)
    assert error(rounded.float() * scales.inverse[gradient], small) < 0.2
    scales.end_step()
    assert not scales.measuring


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_rounding_is_the_same_both_ways_and_close(mode: int) -> None:
    scales = Scales(DEVICE)
    place = scales.place(FORWARD)
    scales.allocate()
    x = random(100, 144)
    exact = (x, activation.plain_swiglu(x), activation.plain_gelu(x))[mode]
    out, turned = scales.round(x, place, mode)
    assert error(out.float() * scales.inverse[place], exact) < 0.1
    assert error(turned.float().t(), out.float()) < 0.02


@pytest.mark.parametrize("gated", [True, False])
def test_the_rounded_gradient_of_an_activation_is_close(gated: bool) -> None:
    scales = Scales(DEVICE)
    place = scales.place(BACKWARD)
    scales.allocate()
    x = random(100, 144).requires_grad_()
    out = (activation.plain_swiglu if gated else activation.plain_gelu)(x)
    dout = torch.randn_like(out)
    out.backward(dout)
    rounded, turned = scales.round_gradient(x.detach(), dout, place, gated)
    assert x.grad is not None
    assert error(rounded.float() * scales.inverse[place], x.grad) < 0.2
    assert error(turned.float().t(), rounded.float()) < 0.05


@pytest.mark.parametrize("gated", [True, False])
def test_the_first_steps_own_scale_of_a_gradient_cuts_hardly_anything_off(gated: bool) -> None:
    """The gradient is not known before it is rounded, so its scale comes from a bound."""
    scales = Scales(DEVICE)
    place = scales.place(BACKWARD)
    scales.allocate()
    x = (30 * random(64, 128)).requires_grad_()
    out = (activation.plain_swiglu if gated else activation.plain_gelu)(x)
    dout = torch.randn_like(out)
    out.backward(dout)
    assert x.grad is not None
    rounded, _ = scales.round_gradient(x.detach(), dout, place, gated)
    largest = rounded.float().abs().max() * scales.inverse[place]
    assert float(largest) == pytest.approx(float(x.grad.abs().max()), rel=0.25)


class Layers:
    """A feed-forward layer in float8, and the weights that it rounds."""

    def __init__(self, gated: bool) -> None:
        self.scales = Scales(DEVICE)
        self.gated = gated
        self.up = self.layer(128 if gated else 64, 32)
        self.down = self.layer(32, 64)
        self.scales.allocate()
        for layer in (self.up, self.down):
            layer.refresh()

    def layer(self, rows: int, columns: int) -> Fp8Projection:
        weight = nn.Parameter(random(rows, columns) / columns**0.5)
        projection = Projection([weight], torch.bfloat16)
        projection.working.copy_(weight.detach())
        return Fp8Projection(projection, self.scales)

    def plain(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the layer in float32, and its weights as leaves."""
        up, down = (layer.projection.working.float().requires_grad_() for layer in (self.up, self.down))
        act = activation.plain_swiglu if self.gated else activation.plain_gelu
        return act(x @ up.t()) @ down.t(), [up, down]


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multiply exactly where no tensor core multiplies float8."""

    def product(
        left: Tensor, right: Tensor, left_scale: Tensor, right_scale: Tensor,
        dtype: torch.dtype = torch.bfloat16, fast: bool = True,
    ) -> Tensor:  # fmt: skip
        return (left.float() @ right.float() * left_scale * right_scale).to(dtype)

    if not HAS_GPU:
        monkeypatch.setattr(fp8, "product", product)


def test_a_weight_gets_the_scale_of_its_own_largest_value() -> None:
    layer = Layers(gated=False).down
    working = layer.projection.working
    assert float(layer.weight.float().abs().max()) == torch.finfo(FORWARD).max
    assert error(layer.weight.float() * layer.inverse, working) < 0.1
    assert error(layer.transposed.float().t() * layer.inverse, working) < 0.1

    working.mul_(100)
    layer.refresh()
    assert error(layer.weight.float() * layer.inverse, working) < 0.1


def test_a_weight_of_zeros_stays_finite() -> None:
    layer = Layers(gated=False).down
    layer.projection.working.zero_()
    layer.refresh()
    assert not layer.weight.float().any()
    assert bool(layer.inverse.isfinite())


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("gated", [True, False])
def test_a_feed_forward_layer_is_close_to_the_exact_one_over_two_micro_steps(gated: bool) -> None:
    """As close as the interpreter comes, which cuts a value off where a GPU rounds it."""
    layers = Layers(gated)
    sums = [
        torch.zeros_like(layer.projection.working, dtype=torch.float32) for layer in (layers.up, layers.down)
    ]
    for _ in range(2):
        x = random(3, 16, 32).bfloat16().requires_grad_()
        up = random(3, 16, 32).bfloat16()
        out = fp8.fp8_feed_forward(x, layers.up, layers.down, gated)
        out.backward(up)

        exact = x.detach().float().requires_grad_()
        expected, weights = layers.plain(exact)
        expected.backward(up.float())
        assert x.grad is not None
        assert exact.grad is not None
        assert error(out, expected) < 0.2
        assert error(x.grad, exact.grad) < 0.3
        for total, weight in zip(sums, weights, strict=True):
            assert weight.grad is not None
            total += weight.grad

    for layer, total in zip((layers.up, layers.down), sums, strict=True):
        (weight,) = layer.projection.weights
        assert weight.grad is not None
        assert weight.grad.dtype == torch.float32
        assert error(weight.grad, total) < 0.3


@pytest.mark.usefixtures("products")
def test_a_projection_measures_its_input_and_its_gradient() -> None:
    layer = Layers(gated=False).down
    x = random(2, 16, 64).bfloat16().requires_grad_()
    out = fp8.fp8_project(x, layer)
    assert error(out, x @ layer.projection.working.t()) < 0.2

    up = random(2, 16, 32).bfloat16()
    out.backward(up)
    scales = layer.scales
    assert scales.amax[layer.input] == x.detach().abs().max()
    assert scales.amax[layer.gradient] == up.abs().max()
    scales.end_step()
    assert not scales.amax.any()
    largest = x.detach().abs().max().float()
    torch.testing.assert_close(scales.scale[layer.input], torch.finfo(FORWARD).max / largest)
