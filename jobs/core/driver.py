"""What NVIDIA's driver says of this machine.

"It could not be asked" is an error, and never "there is no GPU".
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from jobctl.jobs.core.errors import UserError

SECONDS = 30
"""How long the driver may take to answer."""


class DriverSilent(UserError):
    """The driver is there and does not answer, so nobody knows which GPUs the machine has."""

    def __init__(self, reason: str) -> None:
        hint = "repair the driver, or say --hardware cpu where the GPUs are not needed"
        super().__init__(reason, hint=hint, code=1)


def query(fields: Sequence[str], devices: Path = Path("/dev")) -> list[str]:
    """Return the driver's answer, a line a GPU with its ``fields`` joined by commas; none without a driver.

    ``devices`` is the folder of the machine's devices. Raises DriverSilent where the driver does not
    answer, and where there are GPUs but no ``nvidia-smi`` to ask.
    """
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except FileNotFoundError:
        if names := sorted(path.name for path in devices.glob("nvidia[0-9]*")):
            raise DriverSilent(f"there is {names[0]} in {devices}, but no nvidia-smi to ask for it") from None

        return []
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DriverSilent(f"nvidia-smi does not answer: {error}") from None

    if done.returncode != 0:
        message = (done.stderr or done.stdout).strip().partition("\n")[0]
        raise DriverSilent(f"nvidia-smi ended with {done.returncode}: {message}")

    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
