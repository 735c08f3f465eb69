"""``python -m jobctl.docker.hardware``: print this machine's hardware as options of jobctl."""

from __future__ import annotations

from jobctl.jobs.catalog.devices import is_device
from jobctl.jobs.catalog.loader import load_hardware, names
from jobctl.jobs.core.driver import query
from jobctl.jobs.core.errors import UserError, run_command


def main() -> int:
    print(*options(query(["name"])))
    return 0


def options(names_of_gpus: list[str]) -> list[str]:
    """Return the options for these GPUs, or those for the CPU if there are none.

    Raises UserError if the catalogue does not know a GPU, or if the machine has several kinds.
    """
    # An empty list is an answer of the driver. A driver that does not answer raises an error in `query`.
    if not names_of_gpus:
        return ["--hardware=cpu"]

    kinds = sorted(set(names_of_gpus))
    # A step is as slow as the slowest GPU, and one hardware entry describes one kind.
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
        hint=f"choose the nearest one with --hardware: {', '.join(names('hardware'))}",
    )


if __name__ == "__main__":
    run_command(main, "jobctl.docker.hardware")
