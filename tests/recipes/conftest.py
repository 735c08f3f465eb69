"""A copy of the checkout, in which a recipe may change what it likes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
ROOMS = (
    "jobs",
    "k8s",
    "slurm",
    "prep",
    "trainer",
    "templates",
    "docker",
    "docs",
    "src",
    "tests",
    "pyproject.toml",
)
UNWANTED = shutil.ignore_patterns("__pycache__", "golden", ".*")


class Checkout:
    """A copy of this checkout, and a shell whose ``jobctl`` and ``python`` run its code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for room in ROOMS:
            source = TOP / room
            if source.is_dir():
                # The package of src/ is links to the rooms beside it, which must stay links.
                shutil.copytree(source, folder / room, symlinks=True, ignore=UNWANTED)
            else:
                shutil.copy(source, folder / room)

        self._programs = folder / "programs"
        self._programs.mkdir()
        self._program("python", 'exec "$PYTHON" "$@"')
        self._program("jobctl", 'exec "$PYTHON" -c "from jobctl.jobs.cli import main; main()" "$@"')

    def _program(self, name: str, text: str) -> None:
        file = self._programs / name
        file.write_text(f"#!/bin/bash\n{text}\n")
        file.chmod(0o755)

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command line in the copy."""
        environment = {
            **os.environ,
            "HOME": str(self.folder / "home"),
            "PATH": f"{self._programs}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "PYTHONPATH": f"{self.folder / 'src'}:{self.folder}",
        }
        environment.pop("JOBCTL_ROOT", None)
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")
