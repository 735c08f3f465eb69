"""The live line: how far, how well, how fast, how long still."""

from __future__ import annotations


def line(step: int, max_iters: int, record: dict[str, float], timing: dict[str, float], peak: str) -> str:
    """One line for the console from a step's records."""
    left = (max_iters - step) * timing["dt_ms"] / 1e3
    mfu = f"MFU {timing['mfu']:.1%} of {peak}" if "mfu" in timing else "MFU n/a"
    return (
        f"step {step}/{max_iters} ({step / max_iters:.0%})  loss {record['loss']:.4f}  lr {record['lr']:.2e}  "
        f"grad {record['grad_norm']:.2f}  {timing['tokens_per_sec']:,.0f} tokens/s  {mfu}  "
        f"{timing['dt_ms']:,.0f} ms/step  ETA {clock(left)}"
    )


def clock(seconds: float) -> str:
    """``1d 02:03:04``, without the day where there is none."""
    days, rest = divmod(round(seconds), 86400)
    hours, rest = divmod(rest, 3600)
    return (f"{days}d " if days else "") + f"{hours:02d}:{rest // 60:02d}:{rest % 60:02d}"
