"""``python -m jobctl.docker.hardware``: print this machine's hardware as options of jobctl."""

from __future__ import annotations

import subprocess

from jobctl.jobs.catalog.loader import load_entry, names
from jobctl.jobs.catalog.schema import HardwareEntry


def gpus() -> list[str]:
    """The driver's names of the GPUs; empty without a driver."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def options(found: list[str]) -> list[str]:
    """Options for the hardware that ``found`` GPUs are; the CPU's where the catalogue knows none of them."""
    for name in names("hardware"):
        device = load_entry("hardware", name, HardwareEntry).facts.device
        if device and found and device.lower() in found[0].lower():
            return [f"--hardware={name}", f"--gpus-per-node={len(found)}"]
    return ["--hardware=cpu"]


if __name__ == "__main__":
    print(*options(gpus()))
