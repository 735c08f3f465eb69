"""The hours of a run beside its steps: ``python -m bench.goodput --folder DIR -o FILE [--ranks N] -- TRAINER FLAGS``.

Trains three times with the real launcher and the same flags, which need ``--checkpoint_interval``: once undisturbed,
once with a rank killed after its first checkpoint, which starts again in place, and once with everything killed, which
a second attempt resumes from the disk. Reports how long a save stops training and when it is durable, how long loading
and a restart take, where the wall time went, and whether all runs logged the same steps. Sets the resume beside a start
without a checkpoint and one plain read of the files. Prints a table, writes JSON. ``bench.saves`` sets saves beside
torch's own ways.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import save_entrants
from bench.document import save, split_flags
from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError, run_command
from jobctl.jobs.core.goodput import OF_STEPS, Start
from jobctl.jobs.core.run_times import read_goodput, read_starts
from jobctl.trainer.checkpoint import publication
from jobctl.trainer.reporting.runlog import records_of_run

POLL_SECONDS = 0.02


def main(arguments: Sequence[str]) -> int:
    """Run both trainings, and report."""
    words, flags = split_flags(arguments)
    parser = argparse.ArgumentParser(prog="python -m bench.goodput", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, required=True, help="where both runs go; on the disk that is measured"
    )
    parser.add_argument("--ranks", type=int, default=1, help="processes, one a GPU")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args(words)

    whole = options.folder / "whole"
    killed = options.folder / "killed"
    resumed = options.folder / "resumed"
    train(resumed, options.ranks, flags, kill_all)
    read_seconds = plain_read(resumed)

    for run, attempt, disturb in ((resumed, 2, None), (whole, 1, None), (killed, 1, kill_rank)):
        code = train(run, options.ranks, flags, disturb, attempt)
        if code:
            print(f"error: the training in {run} ended with {code}", file=sys.stderr)
            return 1

        # The disk need not hold the checkpoints of three runs.
        shutil.rmtree(layout.checkpoints_dir(run))

    results = {
        "whole": facts(whole),
        "killed": facts(killed),
        "resume": resume_facts(whole, resumed, read_seconds),
        "same_steps": same_steps(whole, killed) and same_steps(whole, resumed),
    }
    save(options.output, flags=flags, ranks=options.ranks, results=results)
    print(table(results))

    return 0


def train(
    run: Path,
    ranks: int,
    flags: Sequence[str],
    disturb: Callable[[int], None] | None = None,
    attempt: int = 1,
) -> int:
    """Train with the launcher, and return its exit code.

    ``disturb`` is called with the launcher's process id once the first checkpoint is durable.
    """
    launch = [sys.executable, "-m", "jobctl.trainer.launch", "--standalone", f"--nproc_per_node={ranks}"]
    command = [*launch, "--", f"--run_dir={run}", f"--attempt={attempt}", *flags]
    launcher = subprocess.Popen(command)

    while disturb and launcher.poll() is None:
        if publication.pointed(run, "LATEST"):
            disturb(launcher.pid)
            break

        time.sleep(POLL_SECONDS)

    return launcher.wait()


def kill_rank(launcher: int) -> None:
    """Kill one rank of a launcher."""
    os.kill(max(ranks_of(launcher)), signal.SIGKILL)


def kill_all(launcher: int) -> None:
    """Kill a launcher and its ranks."""
    ranks = ranks_of(launcher)
    # The launcher goes first: it would start the ranks again.
    for process in (launcher, *ranks):
        os.kill(process, signal.SIGKILL)


def plain_read(run: Path) -> float:
    """Return the seconds of a plain read of the latest checkpoint from the disk; leave nothing in the page cache."""
    folder = publication.pointed_folder(run, "LATEST")
    if folder is None:
        raise UserError(
            f"the training in {run} was not killed after a checkpoint",
            hint="give it more steps: --max_iters above --checkpoint_interval",
        )

    files = [path for path in folder.rglob("*") if path.is_file()]
    save_entrants.forget(files)
    seconds = save_entrants.read_raw(files)
    save_entrants.forget(files)

    return seconds


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


def resume_facts(whole: Path, resumed: Path, read_seconds: float) -> dict[str, float]:
    """Return how long a start took up to its first step, with and without a checkpoint.

    ``whole`` must have begun after ``resumed``: its start finds compiled kernels in the caches, as a resume does.
    """
    without = start_seconds(read_starts(whole)[0])
    with_checkpoint = start_seconds(read_starts(resumed)[-1])

    return {
        "start_seconds": round(without, 2),
        "plain_read_seconds": round(read_seconds, 2),
        "resume_seconds": round(with_checkpoint, 2),
        "ratio": round(with_checkpoint / (without + read_seconds), 3),
    }


def start_seconds(start: Start) -> float:
    """Return the seconds from the launch to the first step."""
    first = start.intervals[0]
    in_steps = sum(first.seconds.get(cause, 0.0) for cause in OF_STEPS)
    return first.at - in_steps - start.launched


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
    if resume := results.get("resume"):
        lines.append(
            f"a start {resume['start_seconds']} s, a plain read of the checkpoint {resume['plain_read_seconds']} s, "
            f"a resume from the disk {resume['resume_seconds']} s: {resume['ratio']} of both"
        )

    lines.append(f"all logged the same steps: {results['same_steps']}")

    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
