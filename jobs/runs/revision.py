"""Find the revision of the source that submits a run."""

from __future__ import annotations

import subprocess
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def git_revision() -> str | None:
    """Return the revision of the source tree, with ``-dirty`` if it has changes.

    Return None outside a checkout, and if git does not answer.
    """
    # A package that was installed inside another project's folder does not belong to that project's revision.
    if not _git("ls-files", "--error-unmatch", "--", Path(__file__).name):
        return None

    return _git("describe", "--always", "--dirty", "--abbrev=40")


def _git(*words: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(FOLDER), *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    # The revision is only a note. A submission must not fail or wait because of it.
    except (OSError, subprocess.SubprocessError):
        return None

    return answer.stdout.strip() or None
