"""The answer of a check, and the facts that it may read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from jobctl.jobs.core import layout
from jobctl.jobs.core.amounts import counted
from jobctl.jobs.core.reading import open_regular
from jobctl.jobs.core.text import visible
from jobctl.jobs.monitoring.glance import newest_attempt
from jobctl.jobs.monitoring.history import History
from jobctl.jobs.monitoring.opening import Records

LOG_TAIL_BYTES = 1 << 18
"""Bytes that are read from the end of each log."""
MOST_LOGS = 64
"""The largest number of logs that are read."""
LONGEST_EVIDENCE = 300


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong, in sentences."""

    check: str
    """The name of the check; stable, for machines."""
    cause: str
    evidence: str
    remedy: str
    page: str = "docs/monitoring.md"


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """All facts that a check of a run may read."""

    history: History
    records: Records = Records()
    logs: Mapping[str, str] = {}
    """The end of each log of the last attempt, by its name."""
    now: float = 0.0

    def search(self, pattern: str) -> tuple[str, str] | None:
        """Return name and line of the first log that has the regular expression ``pattern``."""
        expression = re.compile(pattern)
        for name, text in self.logs.items():
            for line in text.splitlines():
                if expression.search(line):
                    return name, line.strip()[:LONGEST_EVIDENCE]

        return None

    @property
    def are_empty(self) -> bool:
        """Return whether the run has written nothing that a check could read."""
        return not (self.logs or self.records.attempts or self.history.segments or self.history.steps)

    @property
    def have_steps(self) -> bool:
        """Return whether the run has written a step, which most checks look at."""
        return bool(self.history.steps)

    @property
    def last_exit_code(self) -> int | None:
        """Return the exit code of the last attempt. One that was refused beside another does not count."""
        admitted = [attempt for attempt in self.records.attempts if attempt.reason != "busy"]
        return admitted[-1].exit_code if admitted else None

    @property
    def on_gpu(self) -> bool:
        """Return whether the run's device is a GPU: only its times are steady enough to be judged."""
        # A log names the product of a device, not its kind.
        device = str(self.history.startup.get("device") or "")
        return any(word in device.upper() for word in ("NVIDIA", "TESLA", "GEFORCE", "RTX", "AMD INSTINCT"))

    def setting(self, name: str) -> object:
        """Return a setting of the run; None if the log does not have it."""
        return self.history.config.get(name)


RunCheck = Callable[[RunFacts], Finding | None]


def read_logs(run: Path, attempt: int | None = None) -> dict[str, str]:
    """Return the end of each log of an attempt, the launcher's first. The default is the last attempt."""
    number = attempt or newest_attempt(run)
    folder = layout.log_dir(run, number)
    try:
        # `batch.log` sorts before the logs of the ranks. The launcher names the first failure in it.
        names = sorted(path.name for path in folder.iterdir() if path.suffix == ".log")
    except OSError:
        # An attempt that never began has no folder; checks of its records still run.
        return {}

    texts: dict[str, str] = {}
    for name in names[:MOST_LOGS]:
        try:
            with open_regular(folder / name) as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - LOG_TAIL_BYTES))
                # Evidence goes onto a terminal, and a log may hold control characters.
                texts[name] = visible(file.read().decode("utf-8", "replace"))
        except OSError:  # a file of another user, or no file
            continue

    return texts


def text(findings: list[Finding], checked: int) -> str:
    """Return the findings as text for people."""
    if not findings:
        return f"{counted(checked, 'check')}, no problems"

    parts = [
        f"{number}. {finding.cause}\n   evidence: {finding.evidence}\n   remedy:   {finding.remedy}\n"
        f"   more:     {finding.page}"
        for number, finding in enumerate(findings, start=1)
    ]
    return "\n\n".join([*parts, f"{counted(checked, 'check')}, {counted(len(findings), 'problem')}"])
