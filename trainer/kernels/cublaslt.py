"""A product whose result is multiplied by GELU's derivative before it leaves the chip: an epilogue of cuBLASLt.

torch has no call for it, so this is the library's C interface: the one that torch has loaded. The numbers are
cublasLt.h's. (GELU itself as an epilogue was tried: no faster than the product and a kernel; docs/performance.md.)
"""

from __future__ import annotations

import ctypes
import functools
from ctypes import byref, c_float, c_int, c_int64, c_size_t, c_uint64, c_void_p

import torch
from torch import Tensor

BFLOAT16, FLOAT32, COMPUTE_FLOAT32 = 14, 0, 68
EPILOGUE, AUX_POINTER, AUX_LEADING = 7, 11, 12
GELU_GRADIENT = 192
MAX_WORKSPACE = 1
WORKSPACE = 32 * 2**20
"""Bytes; what NVIDIA advises for Hopper (cuBLAS documentation, section 2.4.8)."""


class Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = (
        ("algorithm", c_uint64 * 8), ("workspace", c_size_t), ("state", c_int), ("waves", c_float),
        ("reserved", c_int * 4),
    )  # fmt: skip


@functools.cache
def library() -> ctypes.CDLL:
    assert torch.version.cuda is not None
    return ctypes.CDLL(f"libcublasLt.so.{torch.version.cuda.split('.')[0]}")


def call(name: str, *arguments: object) -> None:
    status = getattr(library(), name)(*arguments)
    if status != 0:
        raise RuntimeError(f"{name} failed with status {status}")


@functools.cache
def handle(device: torch.device) -> c_void_p:
    with torch.cuda.device(device):
        made = c_void_p()
        call("cublasLtCreate", byref(made))
        return made


@functools.cache
def workspace(device: torch.device) -> Tensor:
    return torch.empty(WORKSPACE, dtype=torch.uint8, device=device)


class GeluGradientProduct:
    """out ``[rows, n]`` = (left ``[rows, k]`` @ right ``[k, n]``) · GELU'(inner ``[rows, n]``), bfloat16, contiguous.

    GELU in its tanh form, sums in float32. cuBLASLt counts columns first: what it sees is outᵀ = rightᵀ @ leftᵀ.
    Raises RuntimeError where cuBLASLt has nothing for these shapes on this GPU.
    """

    def __init__(self, rows: int, n: int, k: int, device: torch.device) -> None:
        self.device, self.description = device, c_void_p()
        call("cublasLtMatmulDescCreate", byref(self.description), COMPUTE_FLOAT32, FLOAT32)
        self.set(EPILOGUE, c_int(GELU_GRADIENT))
        self.set(AUX_LEADING, c_int64(n))
        self.set(AUX_POINTER, c_void_p(workspace(device).data_ptr()))  # its alignment counts
        self.right, self.left, self.out = layout(n, k), layout(k, rows), layout(n, rows)
        self.algorithm = self.choose()

    def set(self, attribute: int, value: c_int | c_int64 | c_void_p) -> None:
        call(
            "cublasLtMatmulDescSetAttribute", self.description, attribute, byref(value), ctypes.sizeof(value)
        )

    def choose(self) -> Heuristic:
        """The algorithm that cuBLASLt thinks fastest: the same in every run on the same kind of GPU."""
        preference, found, best, size = c_void_p(), c_int(), Heuristic(), c_size_t(WORKSPACE)
        call("cublasLtMatmulPreferenceCreate", byref(preference))
        call(
            "cublasLtMatmulPreferenceSetAttribute",
            preference,
            MAX_WORKSPACE,
            byref(size),
            ctypes.sizeof(size),
        )
        call(
            "cublasLtMatmulAlgoGetHeuristic", handle(self.device), self.description, self.right, self.left, self.out,
            self.out, preference, 1, byref(best), byref(found),
        )  # fmt: skip
        call("cublasLtMatmulPreferenceDestroy", preference)
        return best

    def __call__(self, out: Tensor, left: Tensor, right: Tensor, inner: Tensor) -> None:
        self.set(AUX_POINTER, c_void_p(inner.data_ptr()))
        one, zero, space = c_float(1.0), c_float(0.0), workspace(self.device)
        call(
            "cublasLtMatmul", handle(self.device), self.description, byref(one),
            c_void_p(right.data_ptr()), self.right, c_void_p(left.data_ptr()), self.left, byref(zero),
            c_void_p(out.data_ptr()), self.out, c_void_p(out.data_ptr()), self.out,
            byref(self.algorithm), c_void_p(space.data_ptr()), c_size_t(WORKSPACE),
            c_void_p(torch.cuda.current_stream(self.device).cuda_stream),
        )  # fmt: skip


def layout(rows: int, columns: int) -> c_void_p:
    made = c_void_p()
    call(
        "cublasLtMatrixLayoutCreate", byref(made), BFLOAT16, c_uint64(rows), c_uint64(columns), c_int64(rows)
    )
    return made


@functools.cache
def gelu_gradient_product(rows: int, n: int, k: int, device: torch.device) -> GeluGradientProduct | None:
    """The product for these shapes; None where there is none."""
    try:
        return GeluGradientProduct(rows, n, k, device)
    except (OSError, AttributeError, RuntimeError):
        return None
