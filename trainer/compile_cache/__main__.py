"""``python -m jobctl.trainer.compile_cache seed|publish SHARED LOCAL BYTES``: one copy between the two caches.

A process of its own, so that a file system that hangs, or a fault of ours, costs a few seconds and no run.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from jobctl.trainer.compile_cache.entries import copy, entries, evict, remove_left

SEEDED = "seeded"
"""A file of the local cache: the list of entries that came from the shared one."""
LEFT_SECONDS = 3600.0


def seed(shared: Path, local: Path, limit: int) -> int:
    """Fill a node's cache from the shared one, the newest entries first, up to ``limit`` bytes; how many came."""
    count = 0
    with open(local / SEEDED, "a", encoding="utf-8") as names:
        for entry in sorted(entries(shared), key=lambda entry: entry.written, reverse=True):
            limit -= entry.size
            if limit < 0:
                break

            if copy(entry, shared, local, durably=False):
                print(entry.place, file=names)
                count += 1

    return count


def publish(shared: Path, local: Path, limit: int) -> int:
    """Copy new entries to the shared cache, and keep it below ``limit`` bytes. Return their number."""
    # For this user alone, because these files are loaded as code.
    shared.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_left(shared, time.time() - LEFT_SECONDS)
    names = local / SEEDED
    seeded = set(names.read_text(encoding="utf-8").splitlines()) if names.exists() else set()
    count = sum(
        copy(entry, local, shared, durably=True)
        for entry in list(entries(local))
        if str(entry.place) not in seeded and entry.size <= limit
    )
    # Of all kinds of nodes: versions that nobody uses any more go first.
    evict([folder for folder in shared.parent.iterdir() if folder.is_dir()], limit)

    return count


if __name__ == "__main__":
    WORDS = {"seed": seed, "publish": publish}
    WORDS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
