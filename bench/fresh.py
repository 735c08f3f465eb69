"""Jobs one after another, each in a process of its own; while one is timed the next imports."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from typing import Any

NO_TIME = "no time was left"


def last_words(errors: str) -> str:
    """Why a process broke off, from its standard error: the last exception but torchrun's own, or else how it ends."""
    named = re.findall(r"^(?:\[rank\d+\]: )?((?:\w+\.)*\w*(?:Error|Exception): .*)$", errors, re.MULTILINE)
    causes = [exception for exception in named if "ChildFailedError" not in exception]
    return causes[-1] if causes else errors.strip()[-300:]


class FreshProcesses:
    """Give ``run`` one job after another; use as a context manager."""

    def __init__(self) -> None:
        self.waiting = self.start()

    def __enter__(self) -> FreshProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self.waiting.kill()
        self.waiting.communicate()

    @staticmethod
    def start() -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "bench.measured"]
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def run(self, job: dict[str, Any], deadline: float) -> dict[str, Any]:
        """What the job measured, or the job with ``error``; it is ended at ``deadline`` (``time.monotonic``)."""
        process = self.waiting
        self.waiting = self.start()
        try:
            out, err = process.communicate(
                json.dumps(job) + "\n", timeout=max(1.0, deadline - time.monotonic())
            )
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return job | {"error": NO_TIME}
        lines = [line for line in out.splitlines() if line.startswith("{")]
        result: dict[str, Any] = json.loads(lines[-1]) if lines else job | {"error": last_words(err)}
        return result
