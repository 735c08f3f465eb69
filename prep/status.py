"""``python -m jobctl.prep.status DIR [--json]``: how far the job that writes DIR is, over all its nodes."""

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
        prog="python -m jobctl.prep.status", description="How far a prep job is."
    )
    parser.add_argument("folder", type=Path, help="the data set that is being prepared")
    parser.add_argument("--json", action="store_true", help="print the facts as JSON")
    given = parser.parse_args(arguments)
    found = status(given.folder)
    print(msgspec.json.encode(found).decode() if given.json else progress.bar(found))

    return 0


if __name__ == "__main__":
    run_command(main)
