"""Products by cuBLASLt's own interface. torch lets us choose neither its kernel nor the operation at its end.

On Hopper large products are limited by power. If cuBLASLt's first choice has tiles of 192 × 192, its kernel
with tiles of 256 × 128 makes whole steps 3 to 5% shorter, with the same bits (docs/performance.md). For other
first choices nothing was faster, so they stay. The numbers here are those of cublasLt.h. The library is the
one that torch has loaded.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from ctypes import byref, c_float, c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p

import torch
from torch import Tensor

BFLOAT16 = 14
FLOAT32 = 0
COMPUTE_FLOAT32 = 68
TRANSPOSE_FIRST = 3
EPILOGUE = 7
AUX_POINTER = 11
AUX_LEADING = 12
GELU_GRADIENT = 192
MAX_WORKSPACE = 1
TILE = 1
TILE_256X128 = 24
TILE_192X192 = 209
CANDIDATES = 8
"""The number of kernels to ask cuBLASLt for. It offers no more for these shapes."""
ALIGNMENT = 256
"""The alignment in bytes that cuBLASLt assumes when it chooses."""
WORKSPACE = 32 * 2**20
"""The workspace in bytes that NVIDIA advises for Hopper (cuBLAS documentation, section 2.4.8)."""


class Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = (
        ("algorithm", c_uint64 * 8),
        ("workspace", c_size_t),
        ("state", c_int),
        ("waves", c_float),
        ("reserved", c_int * 4),
    )

    @property
    def tile(self) -> int:
        """Its cublasLtMatmulTile_t."""
        value = c_uint32()
        written = c_size_t()
        call(
            "cublasLtMatmulAlgoConfigGetAttribute",
            byref(self),
            TILE,
            byref(value),
            c_size_t(ctypes.sizeof(value)),
            byref(written),
        )

        return value.value


@functools.cache
def library() -> ctypes.CDLL:
    assert torch.version.cuda is not None
    # The name has the major version of CUDA, so this opens the library that torch has loaded.
    return ctypes.CDLL(f"libcublasLt.so.{torch.version.cuda.split('.')[0]}")


def call(name: str, *arguments: object) -> None:
    status = getattr(library(), name)(*arguments)
    if status != 0:
        raise RuntimeError(f"{name} failed with status {status}")


@functools.cache
def handle(device: torch.device) -> c_void_p:
    with torch.cuda.device(device):
        # A handle belongs to the device that is current when it is made.
        made = c_void_p()
        call("cublasLtCreate", byref(made))
        return made


@functools.cache
def workspace(device: torch.device) -> Tensor:
    return torch.empty(WORKSPACE, dtype=torch.uint8, device=device)


def layout(rows: int, columns: int) -> c_void_p:
    made = c_void_p()
    # cuBLASLt is column-major, so the leading dimension is the number of rows.
    call(
        "cublasLtMatrixLayoutCreate", byref(made), BFLOAT16, c_uint64(rows), c_uint64(columns), c_int64(rows)
    )
    return made


def preferred(tiles: Sequence[int]) -> int:
    """Return the index of the candidate to use, by the tiles of each: the first, unless it has 192 × 192."""
    return tiles.index(TILE_256X128) if tiles[0] == TILE_192X192 and TILE_256X128 in tiles else 0


class Product:
    """out ``[rows, n]`` = left ``[rows, k]`` @ right ``[k, n]``, in bfloat16, summed in float32.

    With ``transposed`` right is ``[n, k]`` in memory. With ``gelu_gradient`` the result is multiplied by
    GELU'(inner ``[rows, n]``), in its tanh form, before it is written. All tensors are contiguous. cuBLASLt
    is column-major, so it computes outᵀ = rightᵀ @ leftᵀ. Raises RuntimeError if it has no kernel for these
    shapes on this GPU.
    """

    def __init__(
        self, rows: int, n: int, k: int, transposed: bool, gelu_gradient: bool, device: torch.device
    ) -> None:
        self.device = device
        self.description = c_void_p()
        # The sum and the factors are in float32, whatever the type of the matrices.
        call("cublasLtMatmulDescCreate", byref(self.description), COMPUTE_FLOAT32, FLOAT32)
        # Their first matrix is our right one, because they compute the transposed product.
        self.set(TRANSPOSE_FIRST, c_int(transposed))
        if gelu_gradient:
            self.set(EPILOGUE, c_int(GELU_GRADIENT))
            self.set(AUX_LEADING, c_int64(n))
            # Any pointer with the right alignment, which the choice of a kernel depends on. The real one
            # comes later.
            self.set(AUX_POINTER, c_void_p(workspace(device).data_ptr()))

        self.right = layout(k, n) if transposed else layout(n, k)
        self.left = layout(k, rows)
        self.out = layout(n, rows)
        # An empty list raises an IndexError, which the caller takes for "no kernel".
        candidates = self.candidates()
        self.algorithm = candidates[preferred([each.tile for each in candidates])]

    def set(self, attribute: int, value: c_int | c_int64 | c_void_p) -> None:
        call(
            "cublasLtMatmulDescSetAttribute", self.description, attribute, byref(value), ctypes.sizeof(value)
        )

    def candidates(self) -> list[Heuristic]:
        """Return cuBLASLt's kernels for this product, its first choice first.

        The list is the same in every run.
        """
        preference = c_void_p()
        # cuBLASLt may offer fewer kernels than were asked for, and says how many.
        count = c_int()
        offered = (Heuristic * CANDIDATES)()
        size = c_size_t(WORKSPACE)
        call("cublasLtMatmulPreferenceCreate", byref(preference))
        call(
            "cublasLtMatmulPreferenceSetAttribute",
            preference,
            MAX_WORKSPACE,
            byref(size),
            ctypes.sizeof(size),
        )
        call(
            "cublasLtMatmulAlgoGetHeuristic",
            handle(self.device),
            self.description,
            self.right,
            self.left,
            self.out,
            self.out,
            preference,
            CANDIDATES,
            offered,
            byref(count),
        )
        call("cublasLtMatmulPreferenceDestroy", preference)

        return list(offered)[: count.value]

    def __call__(
        self,
        out: Tensor,
        left: Tensor,
        right: Tensor,
        added: Tensor | None = None,
        inner: Tensor | None = None,
    ) -> None:
        """Write the product to ``out``, plus ``added`` ``[rows, n]``, which is added in float32."""
        # All calls of this shape share the description, so the pointer is set before each.
        if inner is not None:
            self.set(AUX_POINTER, c_void_p(inner.data_ptr()))

        one = c_float(1.0)
        # The factor of the addend. With 0 cuBLASLt does not read it, but it still needs a valid pointer.
        factor = c_float(added is not None)
        space = workspace(self.device)
        call(
            "cublasLtMatmul",
            handle(self.device),
            self.description,
            byref(one),
            c_void_p(right.data_ptr()),
            self.right,
            c_void_p(left.data_ptr()),
            self.left,
            byref(factor),
            c_void_p((out if added is None else added).data_ptr()),
            self.out,
            c_void_p(out.data_ptr()),
            self.out,
            byref(self.algorithm),
            c_void_p(space.data_ptr()),
            c_size_t(WORKSPACE),
            # torch's stream, so that the product waits for its inputs and its readers wait for it.
            c_void_p(torch.cuda.current_stream(self.device).cuda_stream),
        )


@functools.cache
def product_for(
    rows: int, n: int, k: int, transposed: bool, gelu_gradient: bool, device: torch.device
) -> Product | None:
    """Return the product for these shapes, or None if cuBLASLt has none."""
    try:
        # Whatever is missing, an old library or a kernel for this shape, torch multiplies instead.
        return Product(rows, n, k, transposed, gelu_gradient, device)
    except (OSError, AttributeError, RuntimeError, IndexError):
        return None


@functools.cache
def is_hopper(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] == 9


def runs(*tensors: Tensor) -> bool:
    """Return True if a ``Product`` can take these tensors."""
    return all(
        tensor.is_cuda
        and tensor.dtype == torch.bfloat16
        and tensor.is_contiguous()
        # The kernel was chosen for aligned memory, and would fail or be slow elsewhere.
        and tensor.data_ptr() % ALIGNMENT == 0
        for tensor in tensors
    )


def product(left: Tensor, right: Tensor, added: Tensor | None = None) -> Tensor:
    """Return left ``[..., k]`` @ right ``[k, n]``, plus ``added`` ``[..., n]``.

    right or its transpose must be contiguous.
    """
    k, n = right.shape
    transposed = not right.is_contiguous()
    operands = [left, right.t() if transposed else right, *([] if added is None else [added])]
    multiply = None
    # Only on Hopper, where the choice of the tile has been measured.
    if is_hopper(left.device) and runs(*operands):
        multiply = product_for(left.numel() // k, n, k, transposed, False, left.device)

    if multiply is None:
        return left @ right if added is None else torch.addmm(added, left, right)

    out = left.new_empty(*left.shape[:-1], n)
    multiply(out, left, right, added)

    return out


def gelu_gradient_product(left: Tensor, right: Tensor, inner: Tensor) -> Tensor | None:
    """Return (left ``[rows, k]`` @ right ``[k, n]``) · GELU'(inner), in inner's shape ``[..., n]``.

    Return None if cuBLASLt cannot do it.
    """
    if not runs(left, right, inner):
        return None

    k, n = right.shape
    multiply = product_for(len(left), n, k, False, True, left.device)
    if multiply is None:
        return None

    out = torch.empty_like(inner)
    multiply(out, left, right, inner=inner)

    return out
