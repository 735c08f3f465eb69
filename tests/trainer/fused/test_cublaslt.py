"""Products by cuBLASLt on Hopper, by torch elsewhere."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from jobctl.trainer.fused import cublaslt
from tests.trainer.fused.reference import DEVICE, HAS_GPU, TOLERANCE, TYPES, error, random

needs_hopper = pytest.mark.skipif(not HAS_GPU or not cublaslt.is_hopper(DEVICE), reason="needs a Hopper GPU")


@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_is_torchs_and_adds_what_it_is_given(transposed: bool) -> None:
    left = random(512, 256, dtype=TYPES[-1])
    right = random(256, 384, dtype=TYPES[-1])
    added = random(512, 384, dtype=TYPES[-1])
    if transposed:
        right = right.t().contiguous().t()
    whole = left.double() @ right.double()
    in_rows = cublaslt.product(left.view(2, 256, 256), right)
    assert error(in_rows.view(512, 384), whole) < TOLERANCE[left.dtype]
    assert error(cublaslt.product(left, right, added), added.double() + whole) < TOLERANCE[left.dtype]
    if HAS_GPU and cublaslt.is_hopper(DEVICE):
        assert cublaslt.product_for(512, 384, 256, transposed, False, DEVICE) is not None


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        # GPT-2, and all wide products of Qwen3 and LLaMA-3.
        (["192x192", "128x256", "256x128"], "256x128"),
        (["192x192", "128x256"], "192x192"),
        # Qwen3's and LLaMA-3's products of 2048 columns.
        (["256x128", "192x192"], "256x128"),
        # With GELU's gradient.
        (["128x128", "256x128"], "128x128"),
    ],
)
def test_tiles_of_256_by_128_stand_in_for_those_of_192_by_192(offered: list[str], taken: str) -> None:
    numbers = {
        "128x128": 20,
        "128x256": 23,
        "256x128": cublaslt.TILE_256X128,
        "192x192": cublaslt.TILE_192X192,
    }
    assert offered[cublaslt.preferred([numbers[tile] for tile in offered])] == taken


@needs_hopper
@pytest.mark.parametrize(
    ("width", "heads", "inner"), [(2304, 6912, 6144), (2048, 4096, 6144), (2048, 4096, 7168)], ids=str
)
def test_the_catalogues_gated_models_get_tiles_of_256_by_128(width: int, heads: int, inner: int) -> None:
    """LLaMA-2, Qwen3 and LLaMA-3: forward, and the gradients of the inputs."""
    for n, k in [(heads, width), (width, width), (2 * inner, width), (width, inner)]:
        for columns, summed, transposed in [(n, k, True), (k, n, False)]:
            product = cublaslt.product_for(32768, columns, summed, transposed, False, DEVICE)
            assert product is not None
            assert product.algorithm.tile == cublaslt.TILE_256X128, (columns, summed)


def fake(**changes: object) -> torch.Tensor:
    """A tensor of which cuBLASLt takes everything, but for ``changes``."""
    facts = {"is_cuda": True, "dtype": torch.bfloat16, "contiguous": True, "address": 512, **changes}
    return SimpleNamespace(
        is_cuda=facts["is_cuda"],
        dtype=facts["dtype"],
        is_contiguous=lambda: facts["contiguous"],
        data_ptr=lambda: facts["address"],
    )  # type: ignore[return-value]


@pytest.mark.parametrize(
    "change", [{"is_cuda": False}, {"dtype": torch.float32}, {"contiguous": False}, {"address": 520}], ids=str
)
def test_a_tensor_that_cublaslt_would_read_wrongly_goes_to_torch(change: dict[str, object]) -> None:
    """The kernels are chosen for an alignment, and do not look at it again."""
    assert cublaslt.runs(fake(), fake())
    assert not cublaslt.runs(fake(), fake(**change))


def test_where_cublaslt_has_no_kernel_torch_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def __init__(self, *_: object) -> None:
            cublaslt.call("cublasLtMatmulDescCreate")

    refusing = SimpleNamespace(cublasLtMatmulDescCreate=lambda *_: 15)
    monkeypatch.setattr(cublaslt, "library", lambda: refusing)
    monkeypatch.setattr(cublaslt, "Product", Refusing)
    monkeypatch.setattr(cublaslt, "is_hopper", lambda _: True)
    monkeypatch.setattr(cublaslt, "runs", lambda *_: True)
    cublaslt.product_for.cache_clear()
    left = random(6, 4)
    right = random(4, 5)
    try:
        assert torch.equal(cublaslt.product(left, right), left @ right)
        assert cublaslt.gelu_gradient_product(left, right, random(6, 5)) is None
    finally:
        cublaslt.product_for.cache_clear()


def test_a_refusal_of_the_library_names_the_function_and_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cublaslt, "library", lambda: SimpleNamespace(cublasLtCreate=lambda *_: 3))
    with pytest.raises(RuntimeError, match="cublasLtCreate failed with status 3"):
        cublaslt.call("cublasLtCreate")
