"""``python -m jobctl.docker.hardware``: print this machine's hardware as options of jobctl."""

from __future__ import annotations

import subprocess

from jobctl.jobs.catalog.devices import is_device
from jobctl.jobs.catalog.loader import load_hardware, names
from jobctl.jobs.core.errors import UserError, run_command

QUERY = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
QUERY_SECONDS = 30


def main() -> int:
    print(*options(gpus()))
    return 0


def gpus() -> list[str]:
    """Return the driver's names of the GPUs; none on a machine without NVIDIA's driver.

    Raises UserError where there is a driver that does not answer: nobody knows then what the machine has.
    """
    try:
        done = subprocess.run(QUERY, capture_output=True, text=True, timeout=QUERY_SECONDS, check=False)
    except FileNotFoundError:
        return []
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"nvidia-smi does not answer: {error}", hint="repair the driver", code=1) from None

    if done.returncode != 0:
        message = (done.stderr or done.stdout).strip().partition("\n")[0]
        raise UserError(
            f"nvidia-smi ended with {done.returncode}: {message}",
            hint="repair the driver, or say --hardware cpu",
            code=1,
        )
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def options(names_of_gpus: list[str]) -> list[str]:
    """Return the options for these GPUs; the CPU's for none.

    Raises UserError where the catalogue does not know a GPU, and where the machine has several kinds.
    """
    if not names_of_gpus:
        return ["--hardware=cpu"]
    kinds = sorted(set(names_of_gpus))
    if len(kinds) > 1:
        raise UserError(
            f"this machine has several kinds of GPUs: {', '.join(kinds)}",
            hint="choose one kind with NVIDIA_VISIBLE_DEVICES",
        )

    for name in names("hardware"):
        if is_device(load_hardware(name).facts.device, kinds[0]):
            return [f"--hardware={name}", f"--gpus-per-node={len(names_of_gpus)}"]
    raise UserError(
        f"the catalogue does not know the GPU {kinds[0]}",
        hint=f"say the nearest with --hardware: {', '.join(names('hardware'))}",
    )


if __name__ == "__main__":
    run_command(main, "jobctl.docker.hardware")
