"""The live line: how far, how well, how fast, how long still."""

from __future__ import annotations

from jobctl.jobs.core.amounts import clock


def line(step: int, max_iters: int, record: dict[str, float], timing: dict[str, float], peak: str) -> str:
    """One line for the console from a step's records."""
    left = (max_iters - step) * timing["dt_ms"] / 1e3
    mfu = f"MFU {timing['mfu']:.1%} of {peak}" if "mfu" in timing else "MFU n/a"
    return (
        f"step {step}/{max_iters} ({step / max_iters:.0%})  loss {record['loss']:.4f}  lr {record['lr']:.2e}  "
        f"grad {record['grad_norm']:.2f}  {timing['tokens_per_sec']:,.0f} tokens/s in steps now  {mfu}  "
        f"{timing['dt_ms']:,.0f} ms/step  ETA {clock(left)}"
    )
