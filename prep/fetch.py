"""``python -m jobctl.prep.fetch NAME --root DIR``: fetch and check a tokenizer.

``jobctl tokenizer`` calls it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from jobctl.jobs.core.errors import run_command
from jobctl.prep.encode.tokenizers import FILE, entry_of, fetch
from jobctl.prep.sources.files import sha256_of

BY_IDS = ", but by the ids of the fixed text alone"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jobctl.prep.fetch", description="Fetch and check a tokenizer."
    )
    parser.add_argument("name", help="a tokenizer of the catalogue")
    parser.add_argument("--root", type=Path, required=True, help="the shared folder, $JOBCTL_ROOT")
    parser.add_argument("--token-env", default="HF_TOKEN", help="variable that holds your hub token")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    folder = fetch(given.name, given.root, given.token_env)
    known = entry_of(given.name).sha256.get(FILE)
    other = bool(known) and sha256_of(folder / FILE) != known
    if given.json:
        print(json.dumps({"tokenizer": given.name, "directory": str(folder), "is_the_hubs_own": not other}))
        return 0

    print(f"{folder}: complete and checked" + (f"{BY_IDS}: {FILE} is not the hub's own" if other else ""))

    return 0


if __name__ == "__main__":
    run_command(main)
