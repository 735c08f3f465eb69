"""jobctl beside a long queue of a real Slurm: ``python -m bench.slurm_queue -o FILE``.

Start the tests' cluster, hold 10,000 jobs of one user in its queue, and time ``jobctl list`` and ``jobctl submit``.
Slurm's own ``squeue`` and ``sbatch`` are timed in the same minutes. Needs root and Debian's Slurm. Prints a table,
writes JSON.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.document import save
from jobctl.jobs.core.errors import run_command
from tests.clusters.slurm import SlurmCluster

JOBCTL = (sys.executable, "-c", "from jobctl.jobs.cli import main; main()")
HELD = ("sbatch", "--hold", "--parsable", "--wrap=true", "--output=/dev/null")
SUBMITTERS = 4
"""Processes of sbatch at once."""


def fill(cluster: SlurmCluster, jobs: int) -> float:
    """Put ``jobs`` held jobs into the queue; return the seconds that it took."""
    begun = time.monotonic()
    with ThreadPoolExecutor(SUBMITTERS) as pool:
        list(pool.map(lambda _: cluster.run(*HELD), range(jobs)))
    return time.monotonic() - begun


def timed(command: Sequence[str], env: dict[str, str]) -> dict[str, float]:
    """Run a command; return its seconds by the wall clock and on the processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stdout}{done.stderr}")

    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "processor": processor}


def repeated(count: int, command: Callable[[int], Sequence[str]], env: dict[str, str]) -> dict[str, float]:
    """Return the median seconds of ``count`` runs; ``command`` makes the command line of each."""
    runs = [timed(command(number), env) for number in range(count)]
    return {name: round(statistics.median(run[name] for run in runs), 3) for name in ("wall", "processor")}


def measure(cluster: SlurmCluster, root: Path, repeats: int, tag: str) -> dict[str, dict[str, float]]:
    """Time each command; ``tag`` keeps the names of the runs apart."""
    env = {**cluster.env, "JOBCTL_ROOT": str(root)}
    choice = ("prep", "--dataset", "sotu", "--tokenizer", "gpt2", "--target", "slurm")

    def submission(number: int) -> Sequence[str]:
        return (*JOBCTL, "submit", *choice, "--set", "slurm.options={hold: true}", "--run", f"{tag}{number}")

    return {
        "squeue of this user": repeated(repeats, lambda _: ("squeue", "--me", "--noheader"), env),
        "jobctl list": repeated(repeats, lambda _: (*JOBCTL, "list"), env),
        "sbatch": repeated(repeats, lambda _: HELD, env),
        "jobctl submit": repeated(repeats, submission, env),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    cluster = SlurmCluster().start()
    results: dict[str, Any] = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "datasets").mkdir()
            results["empty queue"] = measure(cluster, root, options.repeats, "empty")
            filled = fill(cluster, options.jobs)
            results[f"{options.jobs:,} jobs"] = measure(cluster, root, options.repeats, "long")
    finally:
        cluster.stop()

    for queue, rows in results.items():
        for name, seconds in rows.items():
            print(
                f"{queue:14} {name:22} {seconds['wall']:7.3f} s  {seconds['processor']:7.3f} s of processor"
            )
    version = subprocess.run(
        ["sinfo", "--version"], capture_output=True, text=True, check=False
    ).stdout.strip()
    save(
        options.output,
        slurm=version,
        load=os.getloadavg()[0],
        filled_seconds=round(filled, 1),
        results=results,
    )
    return 0


if __name__ == "__main__":
    run_command(main)
