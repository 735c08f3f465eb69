"""What a benchmark leaves behind: JSON, headed by when and how it was found."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def save(path: Path, **facts: Any) -> None:
    """Write ``facts`` to ``path``, below the date and the command line of this process."""
    script = Path(sys.argv[0])
    module = script.parent.name if script.stem == "__main__" else script.stem
    head = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", f"bench.{module}", *sys.argv[1:]]),
    }
    path.write_text(json.dumps(head | facts, indent=1) + "\n")


def split_flags(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments before a ``--``, which are the benchmark's, and those after it, which are the trainer's."""
    words = list(arguments)
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def of_today(name: str) -> Path:
    """A file in ``bench/results`` that has the day in its name."""
    return RESULTS / f"{name}-{datetime.now(timezone.utc):%Y-%m-%d}.json"
