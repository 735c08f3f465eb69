"""``python -m jobctl.trainer.probe``: how fast this machine multiplies, attends and copies, as JSON.

Each figure is of a row of the same operation that lasts about a second: a GPU at work is bound by its power, and a
short burst is faster than any training. A minute at most; ``jobctl probe`` starts it and keeps what it prints.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from jobctl.jobs.core.driver import DriverSilent, query
from jobctl.jobs.core.errors import UserError, run_command
from jobctl.trainer.distributed import choose_device
from jobctl.trainer.reporting.startup import device_name

PRODUCTS = ((16384, 2048, 6144), (16384, 6144, 2048), (8192, 4096, 4096), (8192, 2048, 32768))
"""Rows, summed and columns of the products on a GPU: those of models of one to three billion parameters."""
CPU_PRODUCTS = ((512, 64, 256), (512, 512, 512), (1024, 1024, 1024))
COPIES = (2**26, 2**28, 2**30)
CPU_COPIES = (2**20, 2**24, 2**26)
"""Bytes of the copies."""
ATTENTION = (8, 16, 2048, 128)
CPU_ATTENTION = (2, 4, 128, 16)
"""Batch, heads, positions and size of a head."""
WARM = 3
"""Calls that choose a kernel and are not timed."""


def seconds_of(operation: Callable[[], object], device: torch.device, lasting: float) -> float:
    """Return the mean seconds of ``operation`` in a row of about ``lasting`` seconds."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    # The first calls load kernels and choose algorithms.
    for _ in range(WARM):
        operation()

    wait()
    count = 1
    while True:
        began = time.perf_counter()
        for _ in range(count):
            operation()

        wait()
        elapsed = time.perf_counter() - began
        if elapsed >= lasting:
            return elapsed / count

        # Few calls tell how many the whole row needs; one of them may have been interrupted.
        count = max(2 * count, int(1.1 * count * lasting / max(elapsed, 1e-6)))


def products(device: torch.device, lasting: float) -> dict[str, float]:
    """Return TFLOP/s of matrix products by their sizes: bfloat16 on a GPU, float32 on a CPU."""
    on_gpu = device.type == "cuda"
    dtype = torch.bfloat16 if on_gpu else torch.float32
    rates = {}
    for rows, summed, columns in PRODUCTS if on_gpu else CPU_PRODUCTS:
        left = torch.randn(rows, summed, device=device, dtype=dtype)
        right = torch.randn(columns, summed, device=device, dtype=dtype)
        # Bound as defaults, because the loop gives both names other tensors.
        elapsed = seconds_of(lambda a=left, b=right: a @ b.t(), device, lasting)  # type: ignore[misc]
        rates[f"{rows}x{summed}x{columns}"] = 2 * rows * summed * columns / elapsed / 1e12

    return rates


def float8_products(device: torch.device, lasting: float) -> dict[str, float]:
    """Return TFLOP/s of float8 products; none if the GPU has no float8."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 9):
        return {}

    one = torch.ones((), device=device)
    rates = {}
    for rows, summed, columns in PRODUCTS[:2]:
        left = torch.randn(rows, summed, device=device).to(torch.float8_e4m3fn)
        right = torch.randn(columns, summed, device=device).to(torch.float8_e4m3fn)

        def multiply(a: Tensor = left, b: Tensor = right) -> Tensor:
            return torch._scaled_mm(
                a, b.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True
            )

        elapsed = seconds_of(multiply, device, lasting)
        rates[f"{rows}x{summed}x{columns}"] = 2 * rows * summed * columns / elapsed / 1e12

    return rates


def attention(device: torch.device, lasting: float) -> float:
    """Return TFLOP/s of causal attention, forward and backward, by the half of the scores that is needed."""
    on_gpu = device.type == "cuda"
    batch, heads, length, size = ATTENTION if on_gpu else CPU_ATTENTION
    dtype = torch.bfloat16 if on_gpu else torch.float32
    q, k, v = (
        torch.randn(batch, heads, length, size, device=device, dtype=dtype, requires_grad=True)
        for _ in range(3)
    )

    def attend() -> None:
        F.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()

    elapsed = seconds_of(attend, device, lasting)
    # Two products forward and five backward count as six, as in the FLOPs of a model.
    return 6 * batch * heads * length * length * size / elapsed / 1e12


def copies(device: torch.device, lasting: float) -> dict[str, float]:
    """Return TB/s, read and written, of copies by their bytes."""
    rates = {}
    for count in COPIES if device.type == "cuda" else CPU_COPIES:
        # Written once: memory that was never touched has no pages yet, and copies too fast.
        source = torch.empty(count, dtype=torch.uint8, device=device).fill_(1)
        target = torch.empty_like(source)
        elapsed = seconds_of(lambda a=source, b=target: b.copy_(a), device, lasting)  # type: ignore[misc]
        rates[str(count)] = 2 * count / elapsed / 1e12

    return rates


def probe(device: torch.device, lasting: float) -> dict[str, object]:
    """Return every figure, and the device that they describe."""
    if device.type == "cuda":
        torch.cuda.set_device(device)

    return {
        "device": device_name(device),
        "on_gpu": device.type == "cuda",
        "torch": str(torch.__version__),
        "cpus": torch.get_num_threads(),
        "product_tflops": products(device, lasting),
        "float8_tflops": float8_products(device, lasting),
        "attention_tflops": attention(device, lasting),
        "copy_tb_s": copies(device, lasting),
    }


def check_has_no_gpu(environment: Mapping[str, str]) -> None:
    """Raise UserError if the driver does not answer, or has a GPU that torch cannot use.

    The figures of the CPU would otherwise be taken for those of the machine.
    """
    # A torch without CUDA, or an empty list of GPUs, is the user's choice.
    is_hidden = environment.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")
    if torch.version.cuda is None or is_hidden:
        return

    # Not as a hint: `jobctl probe` repeats only the last line.
    remedy = "repair the driver, or hide its GPUs with CUDA_VISIBLE_DEVICES="
    try:
        gpus = query(("name",))
    except DriverSilent as error:
        raise UserError(f"{error.message}; {remedy}", code=1) from None

    if gpus:
        raise UserError(f"torch {torch.__version__} cannot use this machine's {gpus[0]}; {remedy}", code=1)


def main() -> int:
    """Print the figures of one device."""
    parser = argparse.ArgumentParser(prog="python -m jobctl.trainer.probe", description=__doc__)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--seconds", type=float, default=1.0, help="of each operation")
    options = parser.parse_args()
    device = choose_device(options.device)
    if options.device == "auto" and device.type == "cpu":
        check_has_no_gpu(os.environ)

    print(json.dumps(probe(device, options.seconds)))
    return 0


if __name__ == "__main__":
    run_command(main, "probe")
