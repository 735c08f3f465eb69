"""Causal attention, and the choice of the kernel that computes it.

All tensors have the layout ``[batch, sequence, heads, head_dim]``, as in flash-attn. The layout of
``scaled_dot_product_attention`` is a transposed view of it, without a copy. Keys and values may have fewer
heads than the queries (grouped-query attention, Ainslie et al. 2023): head h reads key head h // (H / KV).
"""

from __future__ import annotations

import functools
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from jobctl.jobs.core.errors import UserError, first_line, nearest
from jobctl.trainer.models.cudnn_attention import RepeatableCudnn


class Attention(ABC):
    """Scaled dot-product attention in which a query sees its own position and those before it.

    ``name`` is the kernel that really runs. ``supports_documents`` is True if ``document_ids`` may be given.
    ``passed_over`` names the faster kernels that cannot run here, with the reasons. ``unrepeatable`` is the
    reason why a run with it does not repeat bit for bit. It is empty if the run does repeat.
    """

    name: str
    supports_documents: bool = True
    passed_over: str = ""
    unrepeatable: str = "nobody asked for it"

    @abstractmethod
    def __call__(self, q: Tensor, k: Tensor, v: Tensor, document_ids: Tensor | None = None) -> Tensor:
        """Map q ``[B, T, H, D]``, k and v ``[B, S, KV, D]`` with S >= T to ``[B, T, H, D]`` in q's dtype.

        The queries are the last T of the S positions, so that keys may come from a cache. With
        ``document_ids`` (integers ``[B, S]``) a query sees only keys with the id of its own position.
        """


def visible(queries: int, keys: int, document_ids: Tensor | None, device: torch.device) -> Tensor:
    """Return True for each pair of a query and a key that it may see.

    The shape is ``[T, S]``, or ``[B, 1, T, S]`` with document ids.
    """
    # The queries are the last positions, so the diagonal moves by the number of keys before them.
    causal = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
    if document_ids is None:
        return causal

    same = document_ids[:, -queries:, None] == document_ids[:, None, :]
    return (causal & same)[:, None]


class ManualAttention(Attention):
    """The plain formula (Vaswani et al. 2017, section 3.2.1), in float32 for any inputs."""

    name = "manual"

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, document_ids: Tensor | None = None) -> Tensor:
        wide = torch.promote_types(q.dtype, torch.float32)
        groups = q.shape[2] // k.shape[2]
        # Without this, autocast would turn the products back to bfloat16.
        with torch.autocast(q.device.type, enabled=False):
            queries = q.to(wide).transpose(1, 2)
            # Neighbouring query heads share a key head, so each one is repeated in its place.
            keys = k.to(wide).transpose(1, 2).repeat_interleave(groups, dim=1)
            values = v.to(wide).transpose(1, 2).repeat_interleave(groups, dim=1)
            scores = queries @ keys.transpose(-2, -1) * q.shape[-1] ** -0.5
            mask = visible(q.shape[1], k.shape[1], document_ids, q.device)
            probabilities = scores.masked_fill(~mask, float("-inf")).softmax(dim=-1)
            out: Tensor = (probabilities @ values).transpose(1, 2).to(q.dtype)

            return out


class Kernel(Protocol):
    """One implementation of ``scaled_dot_product_attention`` with the name ``label``.

    Tensors are ``[B, T, heads, D]``.
    """

    @property
    def label(self) -> str: ...

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor: ...


@dataclass(frozen=True)
class SdpaKernel:
    """One implementation behind ``scaled_dot_product_attention``. If ``backend`` is None, torch chooses."""

    label: str
    backend: SDPBackend | None
    native_gqa: bool = True

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
        q = q.transpose(1, 2)
        k = k.transpose(1, 2)
        v = v.transpose(1, 2)
        # Not every kernel reads grouped heads, so the keys may have to be repeated for it.
        grouped = q.shape[1] != k.shape[1]
        if grouped and not self.native_gqa:
            groups = q.shape[1] // k.shape[1]
            k = k.repeat_interleave(groups, dim=1)
            v = v.repeat_interleave(groups, dim=1)

        chosen: AbstractContextManager[Any] = (
            nullcontext() if self.backend is None else sdpa_kernel(self.backend)
        )

        with chosen:
            out = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=is_causal, enable_gqa=grouped and self.native_gqa
            )

        return out.transpose(1, 2)


class SdpaAttention(Attention):
    """torch's own kernels. FlashAttention takes no mask, so document masking may need another kernel."""

    def __init__(self, causal: Kernel, masked: Kernel | None) -> None:
        self.causal = causal
        self.masked = masked
        self.supports_documents = masked is not None
        self.name = f"sdpa({causal.label})"

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, document_ids: Tensor | None = None) -> Tensor:
        queries = q.shape[1]
        keys = k.shape[1]
        if document_ids is None and queries == keys:
            return self.causal(q, k, v, mask=None, is_causal=True)

        # One query at the last position sees all keys, so it needs no mask.
        if document_ids is None and queries == 1:
            return self.causal(q, k, v, mask=None, is_causal=False)

        if self.masked is None:
            raise documents_refused(self.name)

        # torch's is_causal aligns the diagonal with the first key, and these queries are the last
        # positions.
        mask = visible(queries, keys, document_ids, q.device)

        return self.masked(q, k, v, mask=mask, is_causal=False)


class FlashAttention(Attention):
    """A flash-attn package, generation 2, 3 or 4. Its causal mask already ends at the last key."""

    supports_documents = False

    def __init__(self, generation: int, function: Callable[..., Any]) -> None:
        self.name = f"flash_attn_{generation}"
        self.function = function

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, document_ids: Tensor | None = None) -> Tensor:
        if document_ids is not None:
            raise documents_refused(self.name)

        result = self.function(q, k, v, causal=True)
        # Some releases return the log-sum-exp as well.
        if isinstance(result, tuple):
            result = result[0]

        out: Tensor = result

        return out


def documents_refused(name: str) -> UserError:
    return UserError(
        f"attention backend {name} cannot mask documents here",
        hint="set attention_backend to sdpa, or document_masking to false",
    )


# ---------------------------------------------------------------------------------------------- the choice

BACKENDS = ("auto", "sdpa", "cudnn", "flash_attn_2", "flash_attn_3", "flash_attn_4", "manual")

SDPA_KERNELS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
FLASH_MODULES = {2: "flash_attn", 3: "flash_attn_interface", 4: "flash_attn.cute"}


def choose_attention(
    backend: str,
    device: torch.device,
    dtype: torch.dtype,
    head_dim: int = 128,
    documents: bool = False,
    deterministic: bool = False,
) -> Attention:
    """Return the attention ``backend`` on this device. ``auto`` takes the fastest one that works.

    With ``documents`` it must support document ids. With ``deterministic`` its gradients must repeat bit for
    bit; call ``training.repeatable.tell_torch`` before.

    ``dtype`` is that of the matrix products. A candidate works if it gives the output and the gradients of
    the reference on a small grouped-query problem. Raises UserError with the reason of every candidate if
    none works.
    """
    if backend not in BACKENDS:
        raise UserError(f"unknown attention backend '{backend}'", hint=nearest(backend, BACKENDS))

    candidates = automatic_order(device) if backend == "auto" else [backend]
    reasons: list[str] = []

    for candidate in candidates:
        try:
            attention = build_attention(candidate, device, dtype, head_dim, deterministic)
            if documents and not attention.supports_documents:
                raise documents_refused(attention.name)

            attention.passed_over = "; ".join(reasons)

            return attention
        except Exception as error:
            # Each kernel has its own types of errors for "cannot run".
            reasons.append(f"{candidate}: {first_line(error)}")

    raise UserError(
        f"attention backend '{backend}' cannot run on {describe(device)} in {dtype} "
        f"with heads of {head_dim}{', documents masked' * documents}: {'; '.join(reasons)}",
        hint="set attention_backend to auto, which takes the fastest that works, or to sdpa",
    )


def automatic_order(device: torch.device) -> list[str]:
    """Return the backends, the fastest first.

    On Hopper cuDNN takes half of the time of FlashAttention-2. On older GPUs FlashAttention-2 is faster.
    """
    if device.type != "cuda":
        return ["sdpa", "manual"]

    major, _ = torch.cuda.get_device_capability(device)
    if major >= 10:
        return ["cudnn", "flash_attn_4", "flash_attn_2", "sdpa", "manual"]

    if major == 9:
        return ["cudnn", "flash_attn_3", "flash_attn_2", "sdpa", "manual"]

    return ["flash_attn_2", "sdpa", "manual"]


def build_attention(
    backend: str, device: torch.device, dtype: torch.dtype, head_dim: int, deterministic: bool = False
) -> Attention:
    """Build a backend and try it. Raises any error of its kernel."""
    if backend == "manual":
        return ManualAttention()

    if backend.startswith("flash_attn_"):
        attention: Attention = flash_attention(int(backend[-1]), device, deterministic)
        check_against_reference(attention, device, dtype, head_dim, documents=False)
        return attention

    if device.type != "cuda":
        if backend == "cudnn":
            raise UserError("it needs an NVIDIA GPU")

        attention = SdpaAttention(SdpaKernel(device.type, None), SdpaKernel(device.type, None))
        check_against_reference(attention, device, dtype, head_dim, documents=True)

        return attention

    # torch has no switch for cuDNN's repeatable backward pass, so this kernel calls cuDNN itself.
    if backend == "cudnn" and deterministic:
        kernel = RepeatableCudnn()
        attention = SdpaAttention(kernel, kernel)
        for documents in (False, True):
            check_against_reference(attention, device, dtype, head_dim, documents)

        return attention

    # The order by speed, which is another one before Hopper (9.0).
    labels = ["cudnn"] if backend == "cudnn" else ["cudnn", "flash", "efficient", "math"]
    if backend == "sdpa" and torch.cuda.get_device_capability(device)[0] < 9:
        labels = ["flash", "cudnn", "efficient", "math"]

    causal = working_kernel(labels, device, dtype, head_dim, documents=False)

    try:
        masked = working_kernel(["cudnn", "efficient", "math"], device, dtype, head_dim, documents=True)
    except RuntimeError:
        # Without a kernel for masks the attention still serves runs that mask no documents.
        return SdpaAttention(causal, None)

    return SdpaAttention(causal, masked)


def working_kernel(
    labels: list[str], device: torch.device, dtype: torch.dtype, head_dim: int, documents: bool
) -> SdpaKernel:
    """Return the first of torch's kernels that gives the right answer.

    If it knows no groups, repeat the keys.
    """
    reasons = []
    for label in labels:
        # Grouped heads without repeated keys come first: they need less memory.
        for native_gqa in (True, False):
            kernel = SdpaKernel(label, SDPA_KERNELS[label], native_gqa)
            try:
                check_against_reference(SdpaAttention(kernel, kernel), device, dtype, head_dim, documents)
                return kernel
            except Exception as error:
                # As in choose_attention: any type of error.
                reason = f"{label}: {first_line(error)}"

        reasons.append(reason)

    raise RuntimeError("; ".join(reasons))


def flash_attention(generation: int, device: torch.device, deterministic: bool = False) -> FlashAttention:
    """Return the package of a generation. Raises UserError if it is not installed or not for this GPU."""
    if device.type != "cuda":
        raise UserError("it needs an NVIDIA GPU")

    major, _ = torch.cuda.get_device_capability(device)
    if generation == 3 and major != 9:
        raise UserError("FlashAttention-3 is for Hopper (compute capability 9.0) only")

    module = FLASH_MODULES[generation]

    try:
        function = import_module(module).flash_attn_func
    except (ImportError, AttributeError) as error:
        raise UserError(f"the package '{module}' cannot be imported ({first_line(error)})") from error

    # These packages are not made of operators that torch.compile understands.
    if generation >= 3:
        function = torch.compiler.disable(function)

    if deterministic:
        function = functools.partial(function, deterministic=True)

    return FlashAttention(generation, function)


def check_against_reference(
    attention: Attention, device: torch.device, dtype: torch.dtype, head_dim: int, documents: bool
) -> None:
    """Raise an error unless output and gradients agree with those of ManualAttention."""
    # A generator of its own: the check must not change the random state, from which the weights are made.
    generator = torch.Generator().manual_seed(0)
    # Two key heads for four queries: a kernel that mixes up the groups fails here.
    shapes = [(2, 64, 4, head_dim), (2, 64, 2, head_dim), (2, 64, 2, head_dim)]
    inputs = [torch.randn(s, generator=generator, device="cpu").to(device, dtype) for s in shapes]
    upstream = torch.randn(shapes[0], generator=generator, device="cpu").to(device, dtype)
    # Documents of 24, 24 and 16 tokens: their borders lie inside the tiles of a kernel.
    ids = torch.arange(64, device=device).div(24, rounding_mode="floor").expand(2, 64) if documents else None
    results = []

    with torch.enable_grad(), torch.autocast(device.type, enabled=False), warnings.catch_warnings():
        # torch warns of each reason why a kernel cannot run.
        warnings.simplefilter("ignore")
        for implementation in (attention, ManualAttention()):
            # Fresh leaves, so that the gradients of the two do not add up.
            leaves = [tensor.clone().requires_grad_() for tensor in inputs]
            out = implementation(leaves[0], leaves[1], leaves[2], ids)
            torch.autograd.backward(out, upstream)
            results.append([out.detach(), *(leaf.grad for leaf in leaves)])

    # Far above the rounding of the type, and far below the error of a wrong mask or a wrong head.
    tolerance = 5e-2 if dtype in (torch.bfloat16, torch.float16) else 2e-3

    for got, expected in zip(*results, strict=True):
        worst = (got.float() - expected.float()).abs().max() / expected.float().abs().max()
        # Written so that NaN fails as well.
        if not worst <= tolerance:
            raise RuntimeError(f"its result is off by {worst:.1%} from the plain formula")


def describe(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
