"""``python -m jobctl.prep.status DIR [--json]``: show the progress of the job that writes DIR, on all nodes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec

from jobctl.jobs.core.errors import run_command
from jobctl.prep.work import progress
from jobctl.prep.work.whole_job import status


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jobctl.prep.status", description="Show the progress of a prep job."
    )
    parser.add_argument("folder", type=Path, help="the data set that is being prepared")
    parser.add_argument("--json", action="store_true", help="print the facts as JSON")
    given = parser.parse_args(arguments)
    now = status(given.folder)
    print(msgspec.json.encode(now).decode() if given.json else progress.bar(now))

    return 0


if __name__ == "__main__":
    run_command(main)
