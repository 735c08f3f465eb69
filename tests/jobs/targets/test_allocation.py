"""The allocation target in allocations of a real Slurm; the trainer is a stand-in."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs import submission
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.store import Run, Status
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.jobs.targets.registry import load_target
from jobctl.slurm.allocation import parse_allocation
from tests.clusters import BUSY
from tests.clusters.slurm import SlurmCluster

PROJECT = Path(__file__).parents[3]
TARGET = load_target("allocation")
UNTIL_STOPPED = 'until [ -e "$RUN_DIR/STOP" ]; do sleep 0.1; done; echo checkpointed; exit 200'
TERMINATED = "trap 'echo saved; exit 200' TERM; echo ready; while :; do sleep 0.1; done"
WAITER = """
from pathlib import Path
from jobctl.jobs.cli.finding import Place
from jobctl.jobs.cli.follow import follow_to_the_end
from jobctl.jobs.submission import submit
from jobctl.jobs.spec.resolution import Choices, resolve

choices = Choices(model="qwen3_smoke", target="allocation", run="kappa", sets={sets!r})
submit(resolve(choices, version="0", root={root!r}).spec)
follow_to_the_end("kappa", Place(root=Path({root!r})))
"""
NOTEBOOK = """
import time
from jobctl.jobs.submission import submit
from jobctl.jobs.spec.resolution import Choices, resolve

choices = Choices(model="qwen3_smoke", target="allocation", run="delta", sets={sets!r})
submit(resolve(choices, version="0", root={root!r}).spec)
time.sleep(300)
"""


class Holder:
    """Submits runs in an allocation that it holds."""

    def __init__(self, cluster: SlurmCluster, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cluster = cluster
        self.root = root
        self._monkeypatch = monkeypatch

    def hold(self, *options: str) -> str:
        """Make an allocation, and let this process know it as a shell that came by ssh does. Return its id."""
        command = ["salloc", "--no-shell", "--nodes=2", "--gpus-per-node=4", "--time=10", *options]
        done = subprocess.run(command, env=self.cluster.env, capture_output=True, text=True, check=True)
        job = done.stderr.split("job allocation ")[1].split()[0]
        self._monkeypatch.setenv("SLURM_JOB_ID", job)
        return job

    def words(self, run: str, trainer: str, **sets: object) -> tuple[str, ...]:
        stand_in = self.root / f"trainer-of-{run}"
        stand_in.parent.mkdir(parents=True, exist_ok=True)
        stand_in.write_text(f"#!/bin/bash\necho started on $(hostname)\n{trainer}\n")
        stand_in.chmod(0o755)
        settings = {"python": stand_in, "project_dir": PROJECT, "time_limit": "00:10:00"} | sets
        return tuple(f"{key}={value}" for key, value in settings.items())

    def submit(self, run: str, trainer: str, **sets: object) -> str:
        choices = Choices(
            model="qwen3_smoke", target="allocation", run=run, sets=self.words(run, trainer, **sets)
        )
        spec = resolve(choices, version="0", root=str(self.root)).spec
        return submission.submit(spec)[1]

    def read(self, run: str) -> Run:
        return runs.read(self.root, run)

    def status(self, run: str) -> Status:
        (status,) = TARGET.statuses([self.read(run)])
        return status

    def ended(self, run: str) -> Status:
        self.until(lambda: self.status(run).state in runs.ENDED, f"the end of {run}")
        return self.status(run)

    def log(self, run: str) -> list[str]:
        try:
            return list(TARGET.logs(self.read(run), rank=None, attempt=None, follow=False))
        except UserError:  # it has none yet
            return []

    def wait_for_lines(self, run: str, line: str, number: int = 1) -> None:
        self.until(lambda: self.log(run).count(line) == number, f"{line} in the log of {run}")

    def texts(self) -> list[str]:
        """Return the logs. A job at work renames and removes files meanwhile."""
        texts = []
        for file in self.root.glob("runs/*/logs/**/*.*"):
            with contextlib.suppress(OSError):
                texts.append(file.read_text())

        return texts

    def until(self, reached: Callable[[], bool], what: str, seconds: float = 90) -> None:
        deadline = time.monotonic() + BUSY * seconds
        while not reached():
            assert time.monotonic() < deadline, f"not seen: {what}; logs: {self.texts()}"
            time.sleep(0.1)


@pytest.fixture
def holder(slurm_cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Holder:
    monkeypatch.setattr("jobctl.jobs.targets.allocation.QUEUE_SECONDS", 0.0)
    return Holder(slurm_cluster, tmp_path / "root", monkeypatch)


def test_a_run_takes_the_nodes_of_the_allocation_and_leaves_it_as_it_was(holder: Holder) -> None:
    job = holder.hold()
    assert holder.submit("alpha", "echo gpus=$CUDA_VISIBLE_DEVICES", nodes=2) == job
    shown = holder.cluster.run("scontrol", "show", "job", "--details", "--oneliner", job)
    assert parse_allocation(shown).gpus_per_node == 4
    status = holder.ended("alpha")
    assert (status.state, status.exit_code, status.job_id) == ("finished", 0, job)
    assert status.nodes == "n1,n2"
    assert sorted(line for line in holder.log("alpha") if line.startswith(("started", "gpus"))) == [
        *["gpus=0,1,2,3"] * 2, "started on n1", "started on n2",
    ]  # fmt: skip
    assert holder.cluster.wait_for_job(job, "RUNNING") == "RUNNING"


def test_nothing_is_requeued(holder: Holder) -> None:
    job = holder.hold()
    holder.submit("beta", "exit 1", retries=3)
    status = holder.ended("beta")
    assert (status.state, status.exit_code) == ("failed", 1)
    assert [attempt.reason for attempt in holder.read("beta").attempts] == ["failed"]
    restarts = holder.cluster.run("scontrol", "-o", "show", "job", job)
    assert " JobState=RUNNING " in restarts
    assert " Restarts=0 " in restarts


def test_a_cancel_lets_the_ranks_save_and_keeps_the_allocation(holder: Holder) -> None:
    job = holder.hold()
    holder.submit("gamma", TERMINATED, nodes=2)
    holder.wait_for_lines("gamma", "ready", 2)
    TARGET.cancel(holder.read("gamma"))
    assert holder.status("gamma").state == "cancelled"
    assert holder.log("gamma").count("saved") == 2
    assert holder.cluster.wait_for_job(job, "RUNNING") == "RUNNING"


def test_a_run_of_another_node_is_followed_and_cancelled_from_here(
    holder: Holder, slurm_cluster: SlurmCluster, tmp_path: Path
) -> None:
    """Jupyter in a job step that holds all the CPUs and GPUs; the submitting host is a node."""
    notebook = tmp_path / "notebook.py"
    notebook.write_text(NOTEBOOK.format(root=str(holder.root), sets=holder.words("delta", TERMINATED)))
    batch = f"#!/bin/bash\nsrun {sys.executable} {notebook}\n"
    options = (
        "--parsable",
        "--time=10",
        "--gpus-per-node=2",
        f"--output={tmp_path}/out",
        f"--chdir={PROJECT}",
    )
    job = slurm_cluster.run("sbatch", *options, stdin=batch)
    holder.until(lambda: (holder.root / "runs/delta/attempts/1.json").is_file(), "an attempt")
    holder.wait_for_lines("delta", "ready")
    assert holder.status("delta").state == "running"
    assert holder.read("delta").attempts[0].host != os.uname().nodename
    TARGET.cancel(holder.read("delta"))
    assert holder.status("delta").state == "cancelled"
    assert "saved" in holder.log("delta")
    assert slurm_cluster.wait_for_job(job, "RUNNING") == "RUNNING"


def test_runs_beside_each_other_take_different_nodes_and_a_third_is_refused(holder: Holder) -> None:
    holder.hold()
    holder.submit("one", UNTIL_STOPPED)
    holder.wait_for_lines("one", "started on n1")
    holder.submit("two", UNTIL_STOPPED)
    holder.wait_for_lines("two", "started on n2")
    with pytest.raises(
        UserError,
        match=r"did not start: this run needs \d nodes, and the allocation \d+ has 0 free nodes of 2",
    ):
        holder.submit("three", UNTIL_STOPPED)
    TARGET.cancel(holder.read("one"))
    assert holder.status("one").state == "cancelled"
    assert holder.status("two").state == "running", "only its own steps are signalled"
    TARGET.cancel(holder.read("two"))


def test_the_end_of_the_allocation_is_no_failure_and_the_next_one_goes_on(holder: Holder) -> None:
    first = holder.hold()
    holder.submit("epsilon", '[ "$ATTEMPT" = 2 ] || { echo ready; exec sleep 300; }')
    holder.wait_for_lines("epsilon", "ready")
    holder.cluster.run("scancel", first)
    status = holder.ended("epsilon")
    assert (status.state, status.detail) == ("stopped", f"allocation {first} ended; jobctl resume epsilon")
    assert [attempt.reason for attempt in holder.read("epsilon").attempts] == ["allocation ended"]
    with pytest.raises(UserError, match=f"allocation {first} is |does not know"):
        submission.resume(holder.root, "epsilon")
    second = holder.hold()
    submission.resume(holder.root, "epsilon")
    assert holder.ended("epsilon").state == "finished"
    assert [attempt.job_id for attempt in holder.read("epsilon").attempts] == [first, second]


def test_a_run_is_warned_before_its_limit_as_by_slurm(holder: Holder) -> None:
    holder.hold()
    holder.submit("zeta", UNTIL_STOPPED, time_limit="00:00:09")
    status = holder.ended("zeta")
    assert (status.state, status.exit_code) == ("stopped", 200)
    assert [attempt.reason for attempt in holder.read("zeta").attempts] == ["time limit"]
    assert "checkpointed" in holder.log("zeta")


def test_a_run_that_does_not_heed_the_warning_is_ended_at_its_limit(holder: Holder) -> None:
    holder.hold()
    holder.submit("iota", TERMINATED, time_limit="00:00:09")
    status = holder.ended("iota")
    assert (status.state, status.exit_code) == ("stopped", 200)
    assert [attempt.reason for attempt in holder.read("iota").attempts] == ["time limit"]
    assert "saved" in holder.log("iota")


def test_ctrl_c_ends_the_wait_and_not_the_run(holder: Holder) -> None:
    holder.hold()
    waits = WAITER.format(root=str(holder.root), sets=holder.words("kappa", TERMINATED))
    waiter = subprocess.Popen(
        [sys.executable, "-c", waits], start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    holder.until(lambda: (holder.root / "runs/kappa/attempts/1.json").is_file(), "an attempt")
    holder.wait_for_lines("kappa", "ready")
    os.killpg(waiter.pid, signal.SIGINT)
    assert "kappa continues" in waiter.communicate(timeout=60)[1]
    assert holder.status("kappa").state == "running"
    assert "saved" not in holder.log("kappa")
    TARGET.cancel(holder.read("kappa"))


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ({"nodes": 3}, "asks for 3 nodes, allocation .* has 2"),
        ({"time_limit": "1-00:00:00"}, r"time_limit is 1-00:00:00, allocation .* has 0:09:\d\d left"),
    ],
)
def test_what_the_allocation_has_not_is_refused(holder: Holder, sets: dict[str, object], words: str) -> None:
    holder.hold()
    with pytest.raises(UserError, match=words):
        holder.submit("eta", "exit 0", **sets)
    assert not (holder.root / "runs/eta").exists()


def test_without_an_allocation_it_is_refused(holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(UserError, match="SLURM_JOB_ID is not set") as raised:
        holder.submit("theta", "exit 0")
    assert "salloc" in raised.value.hint
    monkeypatch.setenv("SLURM_JOB_ID", "999999")
    with pytest.raises(UserError, match="SLURM_JOB_ID is 999999, but Slurm does not know this job"):
        holder.submit("theta", "exit 0")
