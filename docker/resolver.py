"""Ask uv to resolve a list of packages anew, without reading an earlier list."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jobctl.jobs.core.errors import UserError


def resolve(requirements: Path, date: str, options: Sequence[str], constraints: str = "") -> str:
    """Return every version and hash for ``requirements`` on the index at ``date``.

    There is no output file, because uv would keep the versions and hashes in it. Raises UserError without uv,
    and if there is no answer.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "constraints.txt"
        file.write_text(constraints, encoding="utf-8")
        command = ["uv", "pip", "compile", str(requirements), f"--constraint={file}"]
        # The system's certificates are used: a proxy may have its own certificate.
        command += ["--quiet", "--system-certs", "--generate-hashes", f"--exclude-newer={date}"]
        # No fact of this machine goes into a list, so that it is the same on every machine.
        command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]

        try:
            done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise UserError("uv is not installed", hint="make pin installs it") from None

    if done.returncode:
        raise UserError(f"uv pip compile {requirements.name}: {done.stderr.strip()}", code=1)

    return done.stdout
