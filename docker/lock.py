"""Lock the packages of a machine without an image, with all their dependencies, by hash.

The sources are ``run.txt`` and ``no-deps.txt``. The lists are for every Python and platform. torch has a list
of its own, with the hashes of both builds: if pip knows a hash from PyPI, it prefers that file to one on the
disk. So torch is fetched first and then checked. The libraries of CUDA have their own list, too: they are
gigabytes, and a CPU build of torch does not need them.
"""

from __future__ import annotations

import re
from pathlib import Path

from jobctl.docker import variants
from jobctl.docker.resolver import resolve

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
LOCKED = REQUIREMENTS / "locked.txt"
LOCKED_TORCH = REQUIREMENTS / "locked-torch.txt"
LOCKED_CUDA = REQUIREMENTS / "locked-cuda.txt"
OLDEST_PYTHON = "3.10"
CUDA = re.compile(r"(cuda-|nvidia-|triton==)")
"""Packages that torch needs only if it is built for CUDA."""
TORCH = re.compile(r"torch==")
HEADER = "# Made by `make pin` from {sources}; do not edit. Installed with pip --no-deps --require-hashes.\n"


def texts(date: str) -> dict[Path, str]:
    """Return the text of all lists. Raises UserError as ``resolve`` does."""
    options = ["--universal", f"--python-version={OLDEST_PYTHON}"]
    packages = entries_of(resolve(REQUIREMENTS / "run.txt", date, options))
    alone = entries_of(resolve(REQUIREMENTS / "no-deps.txt", date, [*options, "--no-deps"]))

    cpu_build = variants.read("cpu")["TORCH_SHA256"]
    cuda = [entry for entry in packages if CUDA.match(entry)]
    torch = [with_hash(entry, cpu_build) for entry in packages if TORCH.match(entry)]
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


def with_hash(entry: str, sha256: str) -> str:
    """Add a hash to an entry."""
    return entry.rstrip("\n") + f" \\\n    --hash=sha256:{sha256}\n"
