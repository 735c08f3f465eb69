"""Code that a job runs in the place of the image's: which tree it was, and what was changed in it."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent.parent
"""The source tree that jobctl itself runs from."""


def describe(tree: Path) -> dict[str, str | None]:
    """``tree`` with its revision and the hash of all that differs from it, new files included; nulls outside git."""
    revision = _git(tree, "rev-parse", "HEAD")
    if revision is None:
        return {"tree": str(tree), "revision": None, "diff_sha256": None}
    diff = hashlib.sha256(_git(tree, "diff", "--binary", "HEAD") or b"")
    for name in sorted((_git(tree, "ls-files", "--others", "--exclude-standard", "-z") or b"").split(b"\0")):
        if name and (file := tree / name.decode(errors="surrogateescape")).is_file():
            diff.update(b"\0" + name + b"\0" + file.read_bytes())
    return {"tree": str(tree), "revision": revision.decode().strip(), "diff_sha256": diff.hexdigest()}


def _git(tree: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(tree), *arguments], capture_output=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
