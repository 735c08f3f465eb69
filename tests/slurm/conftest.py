"""Runs on the real cluster, with a stand-in for the trainer where a test is about the job alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import jobctl.slurm.target
from jobctl.jobs import submission
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.store import Run, Status
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.slurm.target import TARGET
from tests.clusters import BUSY
from tests.clusters.slurm import SlurmCluster

PROJECT = Path(__file__).parents[2]

UNTIL_STOPPED = 'until [ -e "$RUN_DIR/STOP" ]; do sleep 0.1; done; echo checkpointed; exit 200'
"""What the trainer does when it is told to stop, after steps without end."""
TERMINATED = "trap 'touch $RUN_DIR/checkpointed; exit 200' TERM; echo ready; while :; do sleep 0.1; done"
FIRST_UNTIL_STOPPED = f'[ "$ATTEMPT" = 1 ] || {{ echo finished; exit 0; }}; {UNTIL_STOPPED}'


class Submitter:
    """Submits runs below one root, and waits for what becomes of them."""

    def __init__(self, cluster: SlurmCluster, root: Path) -> None:
        self.cluster, self.root = cluster, root

    def spec(
        self,
        run: str | None,
        trainer: str | None,
        *,
        after: tuple[str, ...] = (),
        stage: str = "train",
        **sets: object,
    ) -> JobSpec:
        """A smoke job whose ``python`` is a script doing ``trainer``, or the real one where it is None."""
        python = sys.executable
        if trainer is not None:
            # No space in its name: Slurm does not find such a process when it sends a signal.
            stand_in = self.root / f"trainer-of-{run}-{stage}"
            stand_in.parent.mkdir(parents=True, exist_ok=True)
            stand_in.write_text(f"#!/bin/bash\necho started $ATTEMPT on $(hostname)\n{trainer}\n")
            stand_in.chmod(0o755)
            python = str(stand_in)
        settings = {
            "python": python,
            "project_dir": PROJECT,
            "exclusive": "false",
            "time_limit": "00:10:00",
        } | sets
        choices = Choices(
            model="qwen3_smoke", target="slurm", run=run, after=after, stage=stage,
            sets=tuple(f"{key}={value}" for key, value in settings.items()),
        )  # fmt: skip
        return resolve(choices, version="0", root=str(self.root)).spec

    def submit(
        self,
        run: str,
        trainer: str | None,
        *,
        after: tuple[str, ...] = (),
        stage: str = "train",
        **sets: object,
    ) -> str:
        return submission.submit(self.spec(run, trainer, after=after, stage=stage, **sets))[1]

    def read(self, run: str) -> Run:
        return runs.read(self.root, run)

    def status(self, run: str) -> Status:
        (status,) = TARGET.statuses([self.read(run)])
        return status

    def wait(self, run: str, *states: str, seconds: float = 120) -> Status:
        self.until(
            lambda: self.status(run).state in states, f"{run} {states}", seconds, lambda: self.status(run)
        )
        return self.status(run)

    def wait_for_line(self, run: str, line: str, seconds: float = 120) -> None:
        def seen() -> bool:
            return any(
                line in log.read_text() for log in (self.root / "runs" / run / "logs").glob("*/batch.log")
            )

        self.until(seen, f"'{line}' in the log of {run}", seconds, lambda: self.log(run))

    def log(self, run: str) -> list[str]:
        return list(TARGET.logs(self.read(run), rank=None, attempt=None, follow=False))

    def wait_for_requeue(self, job: str) -> None:
        """Until a job waits again.

        Slurm's pause before the next attempt is kept: started at once, the old attempt's end is taken for its own.
        """

        def waits() -> bool:
            return "PENDING" in self.cluster.run("squeue", "-h", "-j", job, "-o", "%T")

        self.until(waits, f"requeued job {job}", 90, lambda: self.cluster.run("squeue", "-h", "-t", "all"))

    def until(
        self,
        reached: Callable[[], bool],
        what: str,
        seconds: float,
        instead: Callable[[], object] = lambda: "",
    ) -> None:
        deadline = time.monotonic() + BUSY * seconds  # seconds of an idle machine
        while not reached():
            assert time.monotonic() < deadline, f"not seen in {seconds:g} s: {what}; instead: {instead()}"
            time.sleep(0.1)


@pytest.fixture
def slurm_runs(slurm_cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submitter:
    monkeypatch.setattr(jobctl.slurm.target, "QUEUE_SECONDS", 0.0)
    return Submitter(slurm_cluster, tmp_path / "root")
