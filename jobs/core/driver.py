"""Ask NVIDIA's driver about the GPUs of this machine.

A driver that does not answer is an error. It never means that the machine has no GPU.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from jobctl.jobs.core.errors import UserError

SECONDS = 30
"""Seconds for the driver to answer. A driver with a fault may never answer."""


class DriverSilent(UserError):
    """The driver is installed but does not answer, so the GPUs of the machine are unknown."""

    def __init__(self, reason: str) -> None:
        hint = "repair the driver; if the job needs no GPU, use --hardware cpu"
        super().__init__(reason, hint=hint, code=1)


def query(fields: Sequence[str], devices: Path = Path("/dev")) -> list[str]:
    """Return one line for each GPU: its ``fields``, joined by commas. Without a driver the list is empty.

    ``devices`` is the folder of the machine's devices. Raises DriverSilent if the driver does not answer, or
    if the machine has GPUs but no ``nvidia-smi``.
    """
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except FileNotFoundError:
        # A container may get the devices without the program. A job for GPUs must not treat this as a CPU
        # node.
        if names := sorted(path.name for path in devices.glob("nvidia[0-9]*")):
            raise DriverSilent(
                f"{devices} has {names[0]}, but this machine has no nvidia-smi to query it"
            ) from None

        return []
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DriverSilent(f"nvidia-smi does not answer: {error}") from None

    if done.returncode != 0:
        # nvidia-smi prints some of its errors on stdout.
        message = (done.stderr or done.stdout).strip().partition("\n")[0]
        raise DriverSilent(f"nvidia-smi failed with exit code {done.returncode}: {message}")

    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
