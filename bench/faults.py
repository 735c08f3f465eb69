"""Faults of ranks on GPUs, and what is said of them: ``python -m bench.faults --folder DIR -o FILE``.

Each case trains a small model on two GPUs with the real launcher, with one fault on rank 1. Reports what the console
says, which check of ``jobctl doctor`` names it, and how long after the hang was declared the verdict came. One case
has no fault, and must raise no alarm. Several cases share the GPUs at a time. Prints a table, writes JSON.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import datetime
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from bench.document import save
from bench.faulty_rank import STAMP
from bench.kills import SHAPE, write_tokens
from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import run_command
from jobctl.jobs.monitoring.checks.diagnosis import diagnose
from jobctl.jobs.monitoring.checks.finding import RunFacts, read_logs
from jobctl.jobs.monitoring.opening import open_run

HANG_SECONDS = 15
PATIENCE = 240.0
RECIPE: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "block_size": 512,
    "batch_size": 4,
    "max_iters": 60,
    "warmup_iters": 5,
    "learning_rate": 1e-3,
    "log_interval": 2,
    "eval_interval": 1000,
    "eval_iters": 2,
    "checkpoint_interval": 0,
    "checkpoint_when_busy": "wait",
    "gradient_log_interval": 0,
    "hang_timeout": HANG_SECONDS,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A fault of ``bench.faulty_rank``, and what must be said of it."""

    fault: str
    check: str = ""
    """The check of doctor that must name it; none may where it is empty."""
    console: str = ""
    """A pattern that the console must show."""
    flags: dict[str, Any] = dataclasses.field(default_factory=dict)
    restarts: int = 0


CASES = {
    "no fault": Case("none"),
    "a rank in user code": Case("hang", "hang", r"rank 1 is in \w+ \("),
    "a rank stopped by a signal": Case("stopped", "hang", r"rank 1 \(.*is stopped by a signal"),
    "a collective of another shape": Case("other_collective", "hang", r"disagree at collective|did not arrive"),
    "a collective left out": Case("skipped_collective", "hang", r"disagree at collective|did not arrive"),
    "a data worker that hangs": Case(
        "stuck_data", "hang", r"rank 1 .*data|data worker", {"use_dataloader": True, "dataloader_num_workers": 1}
    ),
    "a slow rank": Case("slow_rank", "straggler", r"rank 1\b.*slow|straggler", {"max_iters": 24, "log_interval": 1}),
    "no GPU memory": Case("no_gpu_memory", "gpu_out_of_memory", r"CUDA out of memory"),
    "a rank killed, no restart": Case("killed_once", "died_by_signal", r"rank 1 \(pid \d+\) ended with SIGKILL"),
    "a rank killed, restart in place": Case(
        "killed_once", "", r"the ranks start again in place", {"checkpoint_interval": 2}, restarts=3
    ),
}  # fmt: skip


def main() -> int:
    """Run the cases and report."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--at-once", type=int, default=3, help="cases that share the GPUs")
    parser.add_argument("--set", nargs="*", default=[], help="trainer options, NAME=VALUE")
    options = parser.parse_args()

    data = write_tokens(options.folder / "data", tokens=500_000)
    changes = dict(text.split("=", 1) for text in options.set)
    with concurrent.futures.ThreadPoolExecutor(options.at_once) as pool:
        tried = {
            name: pool.submit(attempt, CASES[name], options.folder / name.replace(" ", "-"), data, changes)
            for name in options.only
        }
        results = {name: future.result() for name, future in tried.items()}

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    save(options.output, torch=torch.__version__, device=device, results=results)
    print(table(results))
    return 0 if all(result["right"] for result in results.values()) else 1


def attempt(case: Case, run: Path, data: Path, changes: dict[str, str]) -> dict[str, Any]:
    """Train with one fault, as a job's script does, and return what was said of it."""
    log = layout.batch_log(run, 1)
    log.parent.mkdir(parents=True)
    stamp = run / "fault-began"
    flags = SHAPE | RECIPE | case.flags | changes
    command = [sys.executable, "-m", "bench.faulty_rank", "--standalone", "--nproc_per_node=2"]
    command += [
        f"--max_restarts={case.restarts}",
        "--",
        f"--run_dir={run}",
        "--attempt=1",
        f"--dataset={data}",
    ]
    command += [f"--{name}={value}" for name, value in flags.items()]
    environment = os.environ | {"FAULT": case.fault, STAMP: str(stamp)}

    begun = time.time()
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        heard, code = listen(process, log, case.console)
    ended = time.time()

    # A job's script writes this.
    record = layout.attempt_file(run, 1)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(facts_of_attempt(begun, ended, code)))

    text = log.read_text(errors="replace")
    opened = open_run(str(run), run.parent)
    facts = RunFacts(
        history=opened.log.read(), records=opened.records(), logs=read_logs(opened.path), now=time.time()
    )
    checks = [finding.check for finding in diagnose(facts)]
    fault_began = stamp.stat().st_mtime if stamp.exists() else begun
    return {
        "exit_code": code,
        "checks": checks,
        "console": said(text, case.console),
        "seconds_to_words": None if heard is None else round(heard - fault_began, 1),
        "seconds_to_end": round(ended - fault_began, 1),
        "seconds": round(ended - begun, 1),
        "right": (heard is not None or not case.console) and named(checks, case.check),
    }


def facts_of_attempt(begun: float, ended: float, code: int) -> dict[str, Any]:
    """Return the record of an attempt, as a job's script writes it."""
    place = {"job_id": "1", "target": "local", "host": os.uname().nodename, "nodes": "", "pid": 1}
    return {"attempt": 1, **place, "start": iso(begun), "end": iso(ended), "exit_code": code}


def iso(seconds: float) -> str:
    """Return a time since the epoch as a job's script writes it."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(timespec="seconds")


def listen(process: subprocess.Popen[bytes], log: Path, pattern: str) -> tuple[float | None, int]:
    """Wait for the end of the launcher; return when the console first showed the pattern, and the exit code."""
    heard = None
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if heard is None and pattern and re.search(pattern, log.read_text(errors="replace")):
            heard = time.time()

        time.sleep(0.1)

    if process.poll() is None:
        process.kill()

    code = process.wait()
    if heard is None and pattern and re.search(pattern, log.read_text(errors="replace")):
        heard = time.time()

    return heard, code


def named(checks: list[str], expected: str) -> bool:
    """Return whether the check is among them; where none is expected, whether none of a failure is."""
    return expected in checks if expected else not {"hang", "straggler", "died_by_signal"} & set(checks)


def said(text: str, pattern: str) -> list[str]:
    """Return the lines of the console that show the pattern, or its last ones where none does."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [line for line in lines if pattern and re.search(pattern, line)][:3] or lines[-3:]


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the results for people."""
    lines = [f"{'case':34} {'exit':>4} {'said after':>10} {'end after':>9}  right  checks"]
    for name, result in results.items():
        words = result["seconds_to_words"]
        after = "" if words is None else f"{words:.1f} s"
        lines.append(
            f"{name:34} {result['exit_code']:>4} {after:>10} {result['seconds_to_end']:>7.1f} s  "
            f"{'yes' if result['right'] else 'NO ':5}  {', '.join(result['checks'])}"
        )
        lines += [f"    {line[:200]}" for line in result["console"]]

    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_command(main))
