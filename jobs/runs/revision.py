"""Which version of the source a run was submitted with."""

from __future__ import annotations

import subprocess
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def git_revision() -> str | None:
    """Return the revision of the source tree that submits, with ``-dirty`` where it has changes.

    None outside a checkout, and where git does not answer.
    """
    try:
        answer = subprocess.run(
            ["git", "-C", str(FOLDER), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None

    return answer.stdout.strip() or None
