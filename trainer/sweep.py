"""``python -m jobctl.trainer.sweep --plan JSON [--task N] [torchrun options] -- [trainer options]``: try settings.

Each trial is a launcher of its own with fresh ranks, so neither a fragment nor a crash of one is in the
next. What came of it is written at once: a job that is ended and begins again does only what is missing.
On several nodes each one runs this program. The first judges a trial, and the others read its word before
they choose the next.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

import msgspec

from jobctl.jobs.core.errors import UserError, run_command
from jobctl.jobs.core.exit_codes import EXIT_FAILED, EXIT_FINISHED, EXIT_TERMINATED
from jobctl.jobs.core.layout import log_dir
from jobctl.jobs.sweeping.page import RESULT, of_arm, page
from jobctl.jobs.sweeping.plan import Outcome, Plan, Status, Trial, flags, micro_steps
from jobctl.jobs.sweeping.results import read_outcome, read_outcomes, trial_dir, write_outcome
from jobctl.jobs.sweeping.search import next_trial
from jobctl.trainer.launch import split
from jobctl.trainer.options import Options, parse
from jobctl.trainer.reporting.hang_report import tail
from jobctl.trainer.reporting.runlog import Record, records_of_run

OUTPUT = "output.log"
NO_ROOM = re.compile(
    r".*(OutOfMemoryError|CUDA out of memory|[Cc]an't allocate memory|Cannot allocate memory|MemoryError"
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUDA error: out of memory|of this job for memory: ).*"
)
"""A line that says that memory was not enough: PyTorch's, Python's, the kernel's by way of the launcher."""
ERROR = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception): .+|error: .+")
LONGEST_REASON = 300
WORD_SECONDS = 300.0
"""Seconds in which another node must write the result of a trial. Network file systems show files late."""
END_SECONDS = 20.0
"""Seconds in which the ranks of a trial must end before they are killed."""
TOLD = ("MLFLOW_TRACKING_URI", "KUBEFLOW_TRAINER_SERVER_URL", "KUBEFLOW_TRAINER_STATUS_URL")
"""Variables by which a trainer tells services of a run. A trial is none."""


def parse_command(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return this program's own options, and torchrun's."""
    parser = argparse.ArgumentParser(prog="jobctl.trainer.sweep", allow_abbrev=False)
    parser.add_argument("--plan", required=True, help="plan of the trials, as JSON")
    parser.add_argument("--task", type=int, help="number of the arm that this task of an array tries")
    return parser.parse_known_args(list(arguments))


class Sweep:
    """The trials of this job on this node."""

    def __init__(self, plan: Plan, launch: Sequence[str], trainer: Sequence[str], options: Options) -> None:
        self.plan = plan
        self.launch = list(launch)
        self.trainer = list(trainer)
        self.run = options.run_dir
        self.attempt = options.attempt or 0
        self.micro_steps = int(options.flags.get("gradient_accumulation_steps", 1))
        self.leads = leads(launch)
        self.ended = False
        self.process: subprocess.Popen[bytes] | None = None

    def end(self, number: int, _: FrameType | None) -> None:
        """Begin no other trial, and end the one at work."""
        # The mark comes first: after the launcher that ends now, no other one may begin.
        self.ended = True
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def known(self) -> list[Outcome]:
        """Return the results that need no repetition. A failure that the setting did not cause may pass."""
        return [o for o in read_outcomes(self.run) if o.status != "failed" or o.attempt == self.attempt]

    def try_arm(self, arm: int) -> list[Outcome]:
        """Do the missing trials of an arm. Return all results of it."""
        outcomes = of_arm(self.known(), arm)
        while (trial := next_trial(self.plan, arm, outcomes)) is not None and not self.ended:
            outcome = self.tried(trial)
            if outcome is not None:
                outcomes.append(outcome)

        return outcomes

    def tried(self, trial: Trial) -> Outcome | None:
        """Do one trial. Return None if it was ended before it had a result."""
        folder = trial_dir(self.run, trial)
        if self.leads:
            # What an ended attempt has left would be taken for this trial's.
            shutil.rmtree(folder, ignore_errors=True)

        folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        code, late = self.launched(trial, folder)
        # A trial that a signal cut short says nothing about its setting. The next attempt repeats it.
        if self.ended:
            return None

        if not self.leads:
            return self.word_of_the_first(trial)

        outcome = judged(self.plan, trial, self.micro_steps, self.attempt, code, late, folder)
        # The seconds include the start of the ranks, for which a job's time limit must have room, too.
        outcome = msgspec.structs.replace(outcome, seconds=round(time.monotonic() - began, 1))
        # Written before it is printed: the other nodes wait for the file.
        write_outcome(self.run, outcome)
        print(line(self.plan, outcome), flush=True)

        return outcome

    def launched(self, trial: Trial, folder: Path) -> tuple[int, bool]:
        """Run the ranks of a trial; the launcher's exit code, and whether it had to be ended for its time."""
        words = [*self.trainer, *flags(self.plan, trial, self.micro_steps), f"--run_dir={folder}"]
        command = [sys.executable, "-m", "jobctl.trainer.launch", *self.launch, "--", *words]
        # Appended, because every node writes into this file.
        with (folder / OUTPUT).open("ab") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=untracked(os.environ)
            )
            # A signal that came before there was a process has ended none.
            if self.ended:
                self.process.terminate()

            return self.waited(self.process)

    def waited(self, process: subprocess.Popen[bytes]) -> tuple[int, bool]:
        """Wait for a launcher; its exit code, and whether its time was up."""
        deadline = time.monotonic() + self.plan.seconds
        while True:
            try:
                # A short wait, so that a signal is noticed.
                return process.wait(0.5), False
            except subprocess.TimeoutExpired:
                late = time.monotonic() > deadline
                if late or self.ended:
                    return end_process(process), late

    def word_of_the_first(self, trial: Trial) -> Outcome:
        """Wait for the first node's result of a trial. Raises UserError if it writes none."""
        deadline = time.monotonic() + WORD_SECONDS
        # A failure of an earlier attempt may still be there.
        while (outcome := read_outcome(self.run, trial)) is None or outcome.attempt != self.attempt:
            if time.monotonic() > deadline:
                raise UserError(f"the first node wrote no result of trial {trial.name}", code=EXIT_FAILED)

            time.sleep(0.2)

        return outcome


def untracked(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a trial, without any tracking service."""
    kept = {name: value for name, value in environment.items() if name not in TOLD}
    return {**kept, "WANDB_MODE": "disabled"}


def end_process(process: subprocess.Popen[bytes]) -> int:
    """Ask a launcher to end, then kill it; its ranks die with it."""
    process.terminate()
    try:
        return process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def leads(launch: Sequence[str]) -> bool:
    """Return whether this node is the first of the job, by torchrun's options and the script's variable."""
    words = [*launch, os.environ.get("PET_RDZV_CONF", "")]
    # A command that names no rank and no host is that of a single node, which leads.
    others = any(re.fullmatch(r"--node_rank=[1-9]\d*", word) for word in words)
    return not others and "is_host=0" not in words


def judged(
    plan: Plan, trial: Trial, configured: int, attempt: int, code: int, late: bool, folder: Path
) -> Outcome:
    """Return the result of a trial, from its exit code and the files of its ranks."""
    status: Status = "fits"
    reason = ""
    # Lateness comes first, for a launcher that was ended has a misleading exit code.
    if late:
        status = "failed"
        reason = f"not done within {plan.seconds} s"
    elif code != EXIT_FINISHED:
        status, reason = why(texts(folder, attempt), code)

    records = records_of_run(folder)
    return Outcome(
        trial=trial,
        attempt=attempt,
        status=status,
        reason=reason,
        gradient_accumulation_steps=micro_steps(plan, trial, configured),
        **(measured(records, trial) if status == "fits" else {}),
    )


def why(words: Sequence[str], code: int) -> tuple[Status, str]:
    """Return whether memory was the cause of a failed trial, and the line that says it."""
    # Ranks that had room die of a lost peer, with errors of their own.
    for text in words:
        if match := NO_ROOM.search(text):
            return "memory", match[0].strip()[:LONGEST_REASON]

    # The first error is the nearest to the cause.
    errors = [match[0] for text in words for match in ERROR.finditer(text)]
    return "failed", (errors[0] if errors else f"exit code {code}")[:LONGEST_REASON]


def texts(folder: Path, attempt: int) -> list[str]:
    """Return the ends of a trial's logs: the ranks' first, since the launcher only repeats them."""
    paths = [*sorted(log_dir(folder, attempt).glob("rank-*.log")), folder / OUTPUT]
    return [tail(path).decode("utf-8", "replace") for path in paths if path.is_file()]


def measured(records: Sequence[Record], trial: Trial) -> dict[str, float]:
    """Return memory, and of a timed trial the rates of all intervals but the first, which warms up."""
    timings = [record for record in records if record["kind"] == "timing"]
    facts: dict[str, float] = {}
    peaks = [record["memory_peak_gb"] for record in timings if "memory_peak_gb" in record]
    if peaks:
        facts["memory_peak_gb"] = max(peaks)

    steady = timings[1:]
    if trial.purpose == "fit" or not steady:
        return facts

    steps = sum(record["steps"] for record in steady)
    milliseconds = sum(record["dt_ms"] * record["steps"] for record in steady)
    # Weighted with the time of each interval, for intervals may be of different lengths.
    tokens = sum(record["tokens_per_sec"] * record["dt_ms"] * record["steps"] for record in steady)
    facts["step_ms"] = round(milliseconds / steps, 3)
    facts["tokens_per_second"] = round(tokens / milliseconds, 1)
    shares = [record["mfu"] * record["steps"] for record in steady if "mfu" in record]
    if shares:
        facts["mfu"] = round(sum(shares) / steps, 4)

    return facts


def line(plan: Plan, outcome: Outcome) -> str:
    """Return one trial on one line."""
    trial = outcome.trial
    name = f"{plan.arms[trial.arm].name} {trial.name}".strip()
    if outcome.status != "fits":
        return f"sweep: {name}: {outcome.status}: {outcome.reason}"

    peak = f", peak {outcome.memory_peak_gb:.2f} GB" if outcome.memory_peak_gb else ""
    rate = f", {outcome.tokens_per_second:,.0f} tokens/s" if outcome.tokens_per_second else ""
    return f"sweep: {name}: fits{peak}{rate} ({outcome.seconds:.0f} s)"


def ranks_of(launch: Sequence[str]) -> int:
    """Return the ranks of the job, by torchrun's options."""
    numbers = {"nnodes": 1, "nproc_per_node": 1}
    for word in launch:
        name, _, value = word.lstrip("-").partition("=")
        if name in numbers and value.isdigit():
            numbers[name] = int(value)

    return numbers["nnodes"] * numbers["nproc_per_node"]


def main() -> int:
    """Do the arms of this task, or all. Return 0 if any size fits."""
    own, trainer = split(sys.argv[1:])
    options, launch = parse_command(own)
    plan = msgspec.json.decode(options.plan, type=Plan)
    sweep = Sweep(plan, launch, trainer, parse(trainer))
    # Before the first trial, because a job may be cancelled at any moment.
    signal.signal(signal.SIGTERM, sweep.end)
    signal.signal(signal.SIGINT, sweep.end)

    arms = range(len(plan.arms)) if options.task is None else [options.task]
    outcomes = [outcome for arm in arms for outcome in sweep.try_arm(arm)]
    if sweep.ended:
        return EXIT_TERMINATED

    if sweep.leads:
        print(RESULT)
        print(page(plan, read_outcomes(sweep.run), ranks_of(launch)), flush=True)

    return EXIT_FINISHED if any(outcome.status == "fits" for outcome in outcomes) else EXIT_FAILED


if __name__ == "__main__":
    run_command(main)
