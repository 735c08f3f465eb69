"""A process that forks its workers has no threads."""

from __future__ import annotations

import os
import subprocess
import sys


def test_numpy_starts_no_threads_beside_prep() -> None:
    program = "import os, jobctl.prep.__main__; print(len(os.listdir('/proc/self/task')))"
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    said = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout == "1\n"
