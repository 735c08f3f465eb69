"""Slurm's commands: what passes is waited for, what does not is explained, and nothing is submitted twice."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.records import RunRecord
from jobctl.jobs.runs.store import Run
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.slurm import target
from jobctl.slurm.client import Slurm, SlurmRefused, SlurmSilent
from jobctl.slurm.jobs import of_run, run_comment
from tests.clusters.slurm import SlurmCluster

SPEC = resolve(Choices(model="qwen3_smoke", target="slurm"), version="0").spec
SCRIPT = "#!/bin/bash\n#SBATCH --output=/dev/null\n"


class Patient(Slurm):
    """A client that keeps what it would tell the user, and can do something instead of sleeping."""

    def __init__(self, during_pause: object = None, **limits: float) -> None:
        self.told: list[str] = []
        self.pauses: list[float] = []

        def sleep(seconds: float) -> None:
            self.pauses.append(seconds)
            if callable(during_pause):
                during_pause()

        super().__init__(announce=self.told.append, sleep=sleep, **limits)


def commands(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Stand-ins for Slurm's commands, first on the PATH: for answers that a healthy Slurm does not give."""
    folder.mkdir(exist_ok=True)
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_submitted_job_is_found_by_its_run(slurm_cluster: SlurmCluster) -> None:
    client, here = Slurm(), Path("/data/it's|here é/runs/alpha")
    first = client.submit(SCRIPT + "sleep 60\n", name="alpha", comment=run_comment(here))
    second = client.submit(SCRIPT, name="alpha", comment=run_comment(here), options=["--hold"])
    other = client.submit(SCRIPT, name="alpha", comment=run_comment(Path("/elsewhere")), options=["--hold"])
    slurm_cluster.wait_for_job(first, "RUNNING")
    running, held = of_run(client.queue(), "alpha", run_comment(here))
    assert (running.id, running.state, running.node_list) == (first, "RUNNING", "n1")
    assert running.started is not None
    assert abs(running.started - time.time()) < 60
    assert (held.id, held.waiting, held.reason) == (second, True, "JobHeldUser")
    assert {job.id for job in client.queue()} >= {first, second, other}
    assert client.queue(users=[12345]) == []
    client.cancel([first, second, other, "999999"])
    assert not any(job.waiting for job in client.queue())


def test_an_array_is_cancelled_whole(slurm_cluster: SlurmCluster) -> None:
    client = Slurm()
    client.submit(SCRIPT, name="array", comment="y", options=["--hold", "--array=1-5%2"])
    (array,) = [job for job in client.queue() if job.name == "array" and job.active]
    assert array.id.endswith("_[1-5%2]")
    client.cancel([array.id])
    assert slurm_cluster.run("squeue", "-h") == ""


def test_one_job_is_asked_for_alone(slurm_cluster: SlurmCluster) -> None:
    """A user's 10,000 other jobs would take a tenth of a second each time."""
    client = Slurm()
    array = client.submit(SCRIPT, name="array", comment="y", options=["--hold", "--array=1-5"])
    other = client.submit(SCRIPT, name="other", comment="y", options=["--hold"])

    assert [job.id for job in client.job(other)] == [other]
    assert [job.name for job in client.job(array)] == ["array"]
    assert client.job("99999999") == []


def test_variables_of_an_allocation_or_a_user_s_profile_do_not_reach_the_job(
    slurm_cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"SBATCH_PARTITION": "nope", "SLURM_MEM_PER_GPU": "5", "SQUEUE_FORMAT": "%i"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KEPT", "yes")
    script = (
        f"#!/bin/bash\n#SBATCH --output={tmp_path}/out\necho $KEPT $SLURM_MEM_PER_GPU$SLURM_TIME_FORMAT.\n"
    )
    job = Slurm().submit(script, name="x", comment="y")
    slurm_cluster.wait_for_job(job, "COMPLETED")
    assert (tmp_path / "out").read_text() == "yes .\n"


@pytest.mark.parametrize(
    ("directive", "said", "hint"),
    [
        ("--partition=nope", "invalid partition", "sinfo -s"),
        ("--gpus-per-node=h100:9", "node configuration", "sinfo -o"),
        ("--constraint=fast", "feature", "constraint"),
        ("--reservation=none", "reservation", "scontrol show reservation"),
        ("--gres=gpu:b200:1", "configuration", "sinfo"),
    ],
)
@pytest.mark.usefixtures("slurm_cluster")
def test_a_refusal_says_why_and_what_to_look_at(directive: str, said: str, hint: str) -> None:
    with pytest.raises(SlurmRefused) as refused:
        Slurm().submit(f"{SCRIPT}#SBATCH {directive}\ntrue\n", name="x", comment="y")
    assert said in refused.value.message.lower()
    assert hint in refused.value.hint
    assert "sbatch: error" not in refused.value.message
    assert refused.value.code == 1


def test_no_slurm_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="sbatch is not on the PATH") as error:
        Slurm().submit(SCRIPT, name="x", comment="y")
    assert "login node" in error.value.hint


def test_a_controller_that_is_down_is_waited_for_with_one_message(slurm_cluster: SlurmCluster) -> None:
    slurm_cluster.stop_controller()
    client = Patient(during_pause=slurm_cluster.start_controller)
    job = client.submit(SCRIPT, name="late", comment="y")
    assert [found.id for found in client.queue() if found.name == "late"] == [job]
    assert len(client.told) == len(client.pauses) == 1
    assert "waiting" in client.told[0]


def test_patience_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    down = "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
    commands(tmp_path, monkeypatch, squeue=down)
    client = Patient(patience=0)
    with pytest.raises(UserError, match="Unable to contact"):
        client.queue()
    assert client.pauses == []


def test_a_lost_answer_does_not_submit_twice(
    slurm_cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lost = "echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1"
    commands(tmp_path, monkeypatch, sbatch=f'/usr/bin/sbatch --hold "$@" >/dev/null; {lost}')
    client = Patient()
    job = client.submit(SCRIPT, name="once", comment="y")
    assert [found.id for found in client.queue() if found.name == "once"] == [job]


def test_a_command_that_hangs_is_ended_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    once = f"[ -e {tmp_path}/seen ] && exit 0; touch {tmp_path}/seen; exec sleep 600"
    commands(tmp_path, monkeypatch, squeue=once)
    client = Patient(timeout=0.3)
    assert client.queue() == []
    assert len(client.told) == 1


def test_ended_jobs_come_from_accounting(slurm_accounting_cluster: SlurmCluster) -> None:
    client, start = Slurm(), time.time() - 5
    comment = run_comment(Path("/data/a b/runs/failing"))
    job = client.submit(SCRIPT + "exit 3\n", name="failing", comment=comment)
    slurm_accounting_cluster.wait_for_job(job, "FAILED")
    while not (found := [j for j in client.history(start) if j.name == "failing" and not j.active]):
        time.sleep(0.05)
    (ended,) = found
    assert (ended.id, ended.state, ended.exit_code, ended.signal) == (job, "FAILED", 3, 0)
    assert ended.comment == "", "accounts store no comment unless AccountingStoreFlags says so"
    assert ended.ended is not None
    assert client.history(start, users=[12345]) == []


def test_without_accounting_there_is_no_history(slurm_cluster: SlurmCluster) -> None:
    client = Patient()
    assert client.history(time.time() - 60) == []
    assert client.told == []


def test_a_lost_accounting_daemon_does_not_hold_up_what_the_queue_knows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands(tmp_path, monkeypatch, sacct="echo 'sacct: error: Unable to connect to database' >&2; exit 1")
    client = Patient()
    assert client.history(time.time()) == []
    assert "may be missing" in client.told[0]
    assert client.pauses == []


def test_a_list_of_runs_waits_a_moment_for_a_controller_that_is_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It has runs of other targets. A submission waits for ten minutes; and the user is told once."""
    down = "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
    commands(tmp_path, monkeypatch, squeue=down)
    monkeypatch.setattr(target, "LOOK_SECONDS", 0.0)
    client = Patient(during_pause=lambda: pytest.fail("waits as long as a submission"))
    (tmp_path / "x").mkdir()
    waiting = Run("x", tmp_path / "x", RunRecord(spec=SPEC, submitted="2026-11-24T10:00:00Z"), ())
    for _ in range(2):
        with pytest.raises(SlurmSilent, match="Unable to contact"):
            target.SlurmTarget(client).statuses([waiting])


def test_the_same_trouble_is_told_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    down = "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
    commands(tmp_path, monkeypatch, squeue=down)
    now = iter(range(1000))
    monkeypatch.setattr("jobctl.jobs.core.patience.time.monotonic", lambda: float(next(now)))
    client = Patient(patience=600.0)
    for _ in range(2):
        with pytest.raises(SlurmSilent):
            client.of("", patience=3.0).queue()
    assert client.pauses
    assert client.told == [
        "Slurm's controller does not answer; waiting for it (slurm_load_jobs error: Unable to contact slurm "
        "controller (connect failure))"
    ]


@pytest.mark.usefixtures("slurm_cluster")
def test_another_cluster_at_a_site_without_a_database_is_refused_at_once() -> None:
    """Slurm's words are those of a cluster whose controller is down, which is waited for."""
    client = Patient(during_pause=lambda: pytest.fail("waits for a cluster that cannot exist"))
    with pytest.raises(SlurmRefused, match=r"slurm\.cluster is 'nope'.* no database of clusters") as refused:
        client.of("nope").submit(SCRIPT, name="x", comment="y")

    assert "take slurm.cluster out of the site file" in refused.value.hint
    assert client.told == []


def test_a_database_that_restarts_is_waited_for(slurm_accounting_cluster: SlurmCluster) -> None:
    slurm_accounting_cluster.stop_accounts()
    client = Patient(during_pause=slurm_accounting_cluster.start_accounts)
    try:
        job = client.of("lab").submit(SCRIPT, name="late", comment="y")
    finally:
        if not client.pauses:
            slurm_accounting_cluster.start_accounts()

    assert [found.id for found in client.queue() if found.name == "late"] == [job]
    assert len(client.told) == len(client.pauses) == 1
