"""Third-party files that jobctl ships in ``prep/data/``.

Each folder has a licence, and a NOTICE with every hash.
"""

from __future__ import annotations

from pathlib import Path

from jobctl.jobs.core.errors import UserError
from jobctl.prep.sources.files import sha256_of

DATA = Path(__file__).resolve().parent.parent / "data"


def shipped_file(name: str, sha256: str) -> Path:
    """Return the path of the file ``name`` below ``prep/data``.

    Raises UserError if it is absent or was changed.
    """
    path = DATA / name
    if not path.is_file():
        raise UserError(f"{path} does not exist", hint="install jobctl again: the file is a part of it")

    if sha256_of(path) != sha256:
        raise UserError(
            f"{path} does not have the SHA-256 {sha256}", hint="install jobctl again: the file was changed"
        )

    return path
