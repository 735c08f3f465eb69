"""The packages of one machine, ``requirements/run.txt`` and ``no-deps.txt``, with everything they need, by hash.

One list serves every Python and platform. The libraries of CUDA, gigabytes, are in a list of their own: a CPU build of
torch does not need them. torch has the hashes of both builds.
"""

from __future__ import annotations

import re
from pathlib import Path

from jobctl.docker import variants
from jobctl.docker.resolver import resolve

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
LOCKED = REQUIREMENTS / "locked.txt"
LOCKED_CUDA = REQUIREMENTS / "locked-cuda.txt"
OLDEST_PYTHON = "3.10"
CUDA = re.compile(r"(cuda-|nvidia-|triton==)")
"""What torch needs from PyPI only where it is built for CUDA."""
HEADER = "# Made by `make pin` from {sources}; do not edit. Installed with pip --no-deps --require-hashes.\n"


def texts(date: str) -> dict[Path, str]:
    """Return the text of both lists. Raises UserError as ``resolve`` does."""
    options = ["--universal", f"--python-version={OLDEST_PYTHON}"]
    packages = entries_of(resolve(REQUIREMENTS / "run.txt", date, options))
    packages += entries_of(resolve(REQUIREMENTS / "no-deps.txt", date, [*options, "--no-deps"]))

    cpu_build = variants.read("cpu")["TORCH_SHA256"]
    everywhere = [with_hash(entry, "torch", cpu_build) for entry in packages if not CUDA.match(entry)]
    cuda = [entry for entry in packages if CUDA.match(entry)]
    return {
        LOCKED: HEADER.format(sources="requirements/run.txt and no-deps.txt") + "".join(sorted(everywhere)),
        LOCKED_CUDA: HEADER.format(sources="requirements/run.txt") + "".join(sorted(cuda)),
    }


def entries_of(text: str) -> list[str]:
    """Split a list into its entries: a requirement and one line for each of its hashes."""
    return re.findall(r"^[^#\s][^\\\n]*(?:\\\n[^\\\n]*)*\n", text, re.MULTILINE)


def with_hash(entry: str, package: str, sha256: str) -> str:
    """Add a hash to ``entry`` where it is the one of ``package``."""
    if not entry.startswith(f"{package}=="):
        return entry
    return entry.rstrip("\n") + f" \\\n    --hash=sha256:{sha256}\n"
