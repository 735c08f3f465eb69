"""The hours of a run beside its steps: ``python -m bench.goodput --folder DIR -o FILE [--ranks N] -- TRAINER FLAGS``.

Trains twice with the real launcher and the same flags, which need ``--checkpoint_interval``: once undisturbed, and
once with a rank killed after its first checkpoint, which starts again in place. Reports how long a save stops training
and when it is durable, how long loading and a restart take, where the wall time went, and whether both runs
logged the same steps. Prints a table, writes JSON. ``bench.saves`` sets saves beside torch's own ways.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.document import save
from jobctl.jobs.core.goodput import OF_STEPS
from jobctl.jobs.core.run_times import read_goodput, read_starts
from jobctl.trainer.checkpoint import publication
from jobctl.trainer.reporting.runlog import records_of_run

POLL_SECONDS = 0.02


def main(arguments: Sequence[str]) -> int:
    """Run both trainings, and report."""
    words = list(arguments)
    at = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(prog="python -m bench.goodput", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, required=True, help="where both runs go; on the disk that is measured"
    )
    parser.add_argument("--ranks", type=int, default=1, help="processes, one a GPU")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args(words[:at])
    flags = words[at + 1 :]

    whole = options.folder / "whole"
    killed = options.folder / "killed"
    for run in (whole, killed):
        code = train(run, options.ranks, flags, kill=run == killed)
        if code:
            print(f"error: the training in {run} ended with {code}", file=sys.stderr)
            return 1

    results = {"whole": facts(whole), "killed": facts(killed), "same_steps": same_steps(whole, killed)}
    save(options.output, flags=flags, ranks=options.ranks, results=results)
    print(table(results))

    return 0


def train(run: Path, ranks: int, flags: Sequence[str], kill: bool) -> int:
    """Train with the launcher; where ``kill`` is asked for, kill a rank after the first checkpoint."""
    launch = [sys.executable, "-m", "jobctl.trainer.launch", "--standalone", f"--nproc_per_node={ranks}"]
    launcher = subprocess.Popen([*launch, "--", f"--run_dir={run}", "--attempt=1", *flags])
    while kill and launcher.poll() is None:
        if publication.steps(run):
            os.kill(max(ranks_of(launcher.pid)), signal.SIGKILL)
            break

        time.sleep(POLL_SECONDS)

    return launcher.wait()


def ranks_of(launcher: int) -> list[int]:
    """Return the process ids of the launcher's ranks."""
    lists = Path(f"/proc/{launcher}/task").glob("*/children")
    children = [int(pid) for text in lists for pid in text.read_text().split()]
    return [pid for pid in children if b"jobctl.trainer\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def facts(run: Path) -> dict[str, Any]:
    """Return what a run says of its hours."""
    saves = [record for record in records_of_run(run) if record["kind"] == "checkpoint"]
    goodput = read_goodput(run)
    if goodput is None or not saves:
        return {}

    return {
        "checkpoint_bytes": saves[-1]["bytes"],
        "pause_ms": statistics.median(record["checkpoint_pause_ms"] for record in saves),
        "first_pause_ms": saves[0]["checkpoint_pause_ms"],
        "durable_seconds": statistics.median(record["write_seconds"] for record in saves),
        "restart_seconds": restart_seconds(run),
        "wall_seconds": round(goodput.wall_seconds, 2),
        "shares": {cause: round(share, 4) for cause, share in goodput.shares().items()},
    }


def restart_seconds(run: Path) -> list[float]:
    """Return how long each restart in place took, from the death to the first step after it."""
    took = []
    for start in read_starts(run):
        if start.died is None or not start.intervals:
            continue

        first = start.intervals[0]
        in_steps = sum(first.seconds.get(cause, 0.0) for cause in OF_STEPS)
        took.append(round(first.at - in_steps - start.died, 2))

    return took


def same_steps(one: Path, other: Path) -> bool:
    """Return whether two runs have logged the same losses, norms and samples for all steps."""
    rows = [[r for r in records_of_run(run) if r["kind"] == "iteration"] for run in (one, other)]
    return bool(rows[0]) and rows[0] == rows[1]


def table(results: dict[str, Any]) -> str:
    """Return the results for people."""
    lines = [f"{'':24} {'whole':>10} {'killed':>10}"]
    for name in ("first_pause_ms", "pause_ms", "durable_seconds", "wall_seconds"):
        values = [results[run].get(name, float("nan")) for run in ("whole", "killed")]
        lines.append(f"{name:24} {values[0]:>10.1f} {values[1]:>10.1f}")

    causes = [*results["killed"].get("shares", {})]
    for cause in causes:
        shares = [results[run].get("shares", {}).get(cause, 0.0) for run in ("whole", "killed")]
        lines.append(f"share of {cause:15} {shares[0]:>10.1%} {shares[1]:>10.1%}")

    lines.append(f"restart in place, seconds: {results['killed'].get('restart_seconds')}")
    lines.append(f"both logged the same steps: {results['same_steps']}")

    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
