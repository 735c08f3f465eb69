"""``python -m jobctl.prep.litdata DIR``: write litgpt's index next to the shards of a data set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from jobctl.jobs.core.errors import run_command
from jobctl.prep.shards import litdata_index
from jobctl.prep.shards.format import read_meta


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jobctl.prep.litdata",
        description="Write the index with which litgpt reads a data set. No shard is written again.",
    )
    parser.add_argument("folder", type=Path, help="the data set: the folder of meta.json")
    given = parser.parse_args(arguments)

    litdata_index.write(given.folder, read_meta(given.folder))
    print(f"{given.folder / litdata_index.FOLDER}: written")

    return 0


if __name__ == "__main__":
    run_command(main)
