"""Lock the packages of a machine without an image, with all their dependencies, by hash.

The sources are ``run.txt`` and ``no-deps.txt``. The lists are for every Python and platform.

torch has a separate list, with the hashes of the package index and of the CPU builds. CUDA's libraries also
have one: they are gigabytes, and a CPU build of torch does not need them.
"""

from __future__ import annotations

import re
from pathlib import Path

from jobctl.docker.resolver import resolve
from jobctl.jobs.core.errors import UserError

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
LOCKED = REQUIREMENTS / "locked.txt"
LOCKED_TORCH = REQUIREMENTS / "locked-torch.txt"
LOCKED_CUDA = REQUIREMENTS / "locked-cuda.txt"
CPU_BUILDS = REQUIREMENTS / "torch-cpu.sha256"
OLDEST_PYTHON = "3.10"
CUDA = re.compile(r"(cuda-|nvidia-|triton==)")
"""Packages that torch needs only if it is built for CUDA."""
TORCH = re.compile(r"torch==")
HEADER = "# Made by `make pin` from {sources}; do not edit. Installed with pip --no-deps --require-hashes.\n"


def texts(date: str) -> dict[Path, str]:
    """Return the text of all lists. Raises UserError as ``resolve`` does."""
    options = ["--universal", f"--python-version={OLDEST_PYTHON}"]
    packages = entries_of(resolve(REQUIREMENTS / "run.txt", date, options))
    # Their declared dependencies are left out, for the reasons in no-deps.txt.
    alone = entries_of(resolve(REQUIREMENTS / "no-deps.txt", date, [*options, "--no-deps"]))

    cuda = [entry for entry in packages if CUDA.match(entry)]
    torch = [with_hashes(entry, cpu_builds()) for entry in packages if TORCH.match(entry)]
    others = [entry for entry in packages if not CUDA.match(entry) and not TORCH.match(entry)]

    return {
        LOCKED: HEADER.format(sources="requirements/run.txt and no-deps.txt")
        + "".join(sorted(others + alone)),
        LOCKED_TORCH: HEADER.format(sources="requirements/run.txt") + "".join(torch),
        LOCKED_CUDA: HEADER.format(sources="requirements/run.txt") + "".join(sorted(cuda)),
    }


def entries_of(text: str) -> list[str]:
    """Split a list into its entries: a requirement and one line for each of its hashes."""
    return re.findall(r"^[^#\s][^\\\n]*(?:\\\n[^\\\n]*)*\n", text, re.MULTILINE)


def cpu_builds() -> dict[str, str]:
    """Return the SHA-256 of each CPU build of torch, by the name of its file."""
    lines = [line.split() for line in CPU_BUILDS.read_text().splitlines() if not line.startswith("#")]
    return {file: sha256 for sha256, file in lines}


def with_hashes(entry: str, builds: dict[str, str]) -> str:
    """Add the hashes of the builds to an entry.

    Raises UserError for builds of another version than the entry's.
    """
    version = entry.split()[0].partition("==")[2]
    # With hashes of another version pip could install no CPU build.
    others = [file for file in builds if not file.startswith(f"torch-{version}+cpu-")]
    if others:
        raise UserError(
            f"{CPU_BUILDS.name} has {others[0]}, but run.txt needs torch {version}",
            hint="copy the hashes of that version from PyTorch's index of CPU builds",
        )

    return (
        entry.rstrip("\n") + "".join(f" \\\n    --hash=sha256:{sha256}" for sha256 in builds.values()) + "\n"
    )
