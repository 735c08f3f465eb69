"""Find the revision of the source that submits a run."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import jobctl

PACKAGE = Path(jobctl.__file__).resolve().parent
COMPARED_BYTES = 1 << 20
"""The number of bytes of a changed file that count, with its size. A forgotten checkpoint is not read whole."""
SHOWN_DIGITS = 12


def git_revision() -> str | None:
    """Return the revision of the source tree. After changes of the package: ``COMMIT-dirty-FINGERPRINT``.

    Two source trees with the same changes have the same fingerprint. Return None outside a checkout, and if
    git does not answer.
    """
    # A package that was installed inside another project's folder does not belong to that project's revision.
    if not _git("ls-files", "--error-unmatch", "--", "__init__.py"):
        return None

    commit = _git("describe", "--always", "--abbrev=40")
    top = _git("rev-parse", "--show-toplevel")
    changes = _git(
        # A lock of the index would disturb a command that the user runs at the same time.
        *("--no-optional-locks", "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all"),
        *("--", *_folders()),
    )
    if commit is None or top is None or changes is None:
        return None

    # Each entry begins with two letters for its state, and a space.
    names = sorted(entry[3:] for entry in changes.split("\0") if entry)
    commit = commit.strip()

    return f"{commit}-dirty-{_fingerprint(Path(top.rstrip()), names)}" if names else commit


def _folders() -> list[str]:
    """Return the files and folders of the package. In a checkout some are links to other folders of it."""
    return sorted(str(entry.resolve()) for entry in PACKAGE.iterdir() if entry.name != "__pycache__")


def _fingerprint(top: Path, names: list[str]) -> str:
    """Return a hash of the changed, new and removed files of the checkout ``top``."""
    total = hashlib.sha256()
    for name in names:
        path = top / name
        # The hash of each file has a fixed length, so no two lists of files look the same.
        total.update(hashlib.sha256(os.fsencode(name)).digest())
        total.update(hashlib.sha256(_content(path)).digest())

    return total.hexdigest()[:SHOWN_DIGITS]


def _content(path: Path) -> bytes:
    """Return the size and the start of a file. A removed file and a nested checkout have none."""
    try:
        if path.is_symlink():
            return os.fsencode(path.readlink())

        with path.open("rb") as file:
            return b"%d " % os.fstat(file.fileno()).st_size + file.read(COMPARED_BYTES)
    except OSError:
        return b""


def _git(*words: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(PACKAGE), *words],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=10,
            check=True,
        )
    # The revision is only a note. A submission must not fail or wait because of it.
    except (OSError, subprocess.SubprocessError):
        return None

    return answer.stdout
