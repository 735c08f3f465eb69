"""Products of narrow matrices, summed in float32 by whatever this torch has for them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jobctl.trainer.models import products

CPU = torch.device("cpu")


def narrow(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).bfloat16()


@pytest.fixture
def matrices() -> tuple[Tensor, Tensor]:
    return narrow(6, 64, seed=1), narrow(64, 5, seed=2)


def test_a_product_is_stored_in_float32(matrices: tuple[Tensor, Tensor]) -> None:
    out = torch.full((6, 5), float("nan"))
    products.product_into(out, *matrices)

    exact = matrices[0].float() @ matrices[1].float()
    assert torch.allclose(out, exact, atol=0.15)
    assert out.dtype == torch.float32


def test_a_product_is_added_to_what_was_accumulated(matrices: tuple[Tensor, Tensor]) -> None:
    out = torch.full((6, 5), 100.0)
    once = torch.empty(6, 5)
    products.product_into(once, *matrices)
    products.add_product_into(out, *matrices)

    assert torch.allclose(out, 100 + once)


def test_pieces_cover_the_summed_dimension_once() -> None:
    left = narrow(3, 32, seed=3).float()
    right = narrow(32, 2, seed=4).float()
    pieces = torch.bmm(*products.pieces(left, right))

    assert pieces.shape == (products.PIECES, 3, 2)
    assert torch.allclose(pieces.sum(0), left @ right, atol=1e-5)


@pytest.mark.parametrize("known", [frozenset(), frozenset({"product"})])
def test_each_way_gives_the_same_sum(
    known: frozenset[str], matrices: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older torch lacks the wider products, and falls back to those that it has."""
    if known - products.wide_products(CPU):
        known = frozenset()
    monkeypatch.setattr(products, "wide_products", lambda device: known)

    out = torch.zeros(6, 5)
    products.product_into(out, *matrices)
    products.add_product_into(out, *matrices)

    exact = 2 * (matrices[0].float() @ matrices[1].float())
    assert torch.allclose(out, exact, atol=0.3)


def test_short_sums_are_never_cut() -> None:
    assert not products.pieces_pay(2304, 2304, products.PIECES * products.PIECE - products.PIECES, CPU)
    assert not products.pieces_pay(2304, 2304, products.PIECES * products.PIECE + 1, CPU)


def test_a_product_in_pieces_is_the_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, where the pieces pay, in bfloat16 and summed in float32."""
    device = torch.device("cuda", 0) if torch.cuda.is_available() else CPU
    left = narrow(64, 24, seed=5).to(device)
    right = narrow(64, 40, seed=6).to(device)
    whole = left.double().t() @ right.double()
    if device == CPU:
        left = left.float()
        right = right.float()

    out = torch.empty(24, 40, device=device)
    monkeypatch.setattr(products, "pieces_pay", lambda *_: True)
    if device == CPU:
        out = torch.bmm(*products.pieces(left.t(), right)).sum(0)
    else:
        products.product_into(out, left.t(), right)

    torch.testing.assert_close(out.double(), whole, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "pays"),
    [
        ((2304, 2304, 65536), True),
        ((2304, 2304, 4096), False),
        ((2048, 2048, 32768), False),
        ((9216, 2304, 65536), False),
        ((4096, 2048, 32768), False),
    ],
)
def test_pieces_are_for_results_that_would_leave_multiprocessors_idle(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int], pays: bool
) -> None:
    h200 = type("Properties", (), {"multi_processor_count": 132})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: h200)
    assert products.pieces_pay.__wrapped__(*shape, torch.device("cuda", 0)) == pays
