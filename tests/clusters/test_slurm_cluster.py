"""The cluster that other tests rely on is a real one, stands what they do to it, and cleans up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import conftest
from tests.clusters import machine, slurm
from tests.clusters.slurm import SlurmCluster

PROJECT = Path(__file__).parents[2]


def test_two_nodes_are_idle_with_eight_gpus_each(slurm_cluster: SlurmCluster) -> None:
    nodes = slurm_cluster.run("sinfo", "-h", "-N", "-p", "gpu", "-o", "%N %T %c %G").splitlines()
    assert nodes == ["n1 idle 16 gpu:h100:8", "n2 idle 16 gpu:h100:8"]


def test_a_job_runs_on_both_nodes_with_the_gpus_it_asked_for(
    slurm_cluster: SlurmCluster, tmp_path: Path
) -> None:
    script = "#!/bin/bash\nsrun bash -c 'echo $(hostname) $SLURM_PROCID gpus=$CUDA_VISIBLE_DEVICES'\n"
    asked = ("--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=3", f"--output={tmp_path}/out")
    job = slurm_cluster.run("sbatch", "--parsable", *asked, stdin=script)
    slurm_cluster.wait_for_job(job, "COMPLETED")
    assert sorted((tmp_path / "out").read_text().splitlines()) == ["n1 0 gpus=0,1,2", "n2 1 gpus=0,1,2"]


def test_node_names_resolve_on_the_nodes(slurm_cluster: SlurmCluster) -> None:
    """What a rendezvous at the first node needs."""
    found = slurm_cluster.run("srun", "--nodes=2", "--ntasks-per-node=1", "getent", "hosts", "n1", "n2")
    assert {line.split()[1] for line in found.splitlines()} == {"n1", "n2"}


def test_a_cancelled_job_leaves_no_process(slurm_cluster: SlurmCluster) -> None:
    mark = f"31{os.getpid()}"
    script = f"#!/bin/bash\nsetsid sleep {mark} & srun sleep {mark}\n"
    job = slurm_cluster.run("sbatch", "--parsable", "--nodes=2", "--output=/dev/null", stdin=script)
    slurm_cluster.wait_for_job(job, "RUNNING")
    while len(processes_with(f"sleep\0{mark}\0")) < 3:
        time.sleep(0.05)
    slurm_cluster.cancel_all()
    assert processes_with(f"sleep\0{mark}\0") == []


def test_running_jobs_survive_a_restart_of_the_controller(
    slurm_cluster: SlurmCluster, tmp_path: Path
) -> None:
    script = f"#!/bin/bash\nuntil [ -e {tmp_path}/go ]; do sleep 0.1; done\n"
    job = slurm_cluster.run("sbatch", "--parsable", "--output=/dev/null", stdin=script)
    slurm_cluster.wait_for_job(job, "RUNNING")
    slurm_cluster.stop_controller()
    slurm_cluster.start_controller()
    assert slurm_cluster.wait_for_job(job, "RUNNING", "FAILED", "NODE_FAIL") == "RUNNING"
    (tmp_path / "go").touch()
    slurm_cluster.wait_for_job(job, "COMPLETED")


def test_a_dead_node_comes_back(slurm_cluster: SlurmCluster) -> None:
    slurm_cluster.stop_node("n2")
    slurm_cluster.run("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    assert slurm_cluster.run("sinfo", "-h", "-p", "gpu", "-n", "n2", "-o", "%T") in ("down", "down*")
    slurm_cluster.start_node("n2")
    slurm_cluster.wait_until_idle()
    assert "n2" in slurm_cluster.run("srun", "--nodelist=n2", "hostname")


def test_accounting_answers(slurm_accounting_cluster: SlurmCluster) -> None:
    slurm_accounting_cluster.run("srun", "--job-name=counted", "true")
    found = ""
    while "COMPLETED" not in found:
        found = slurm_accounting_cluster.run(
            "sacct", "-n", "-P", "-X", "--name=counted", "--format=JobName,State"
        )
    assert found == "counted|COMPLETED"


def test_clusters_side_by_side_do_not_meet(slurm_cluster: SlurmCluster) -> None:
    other = SlurmCluster().start()
    try:
        job = other.run("sbatch", "--parsable", "--output=/dev/null", "--wrap=sleep 60")
        assert slurm_cluster.run("squeue", "-h", "-j", job, check=False) == ""
        assert job in other.run("squeue", "-h")
    finally:
        directory = other.directory
        other.stop()
    assert not directory.exists()
    assert processes_with(str(directory)) == []


@pytest.mark.usefixtures("slurm_daemons")
def test_nothing_outlives_a_killed_owner() -> None:
    owner = (
        "import sys, time; from tests.clusters.slurm import SlurmCluster; c = SlurmCluster().start();"
        "c.run('sbatch', '--output=/dev/null', '--wrap=sleep 600');"
        "print(c.directory, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", owner], stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as process:
        assert process.stdout is not None
        directory = Path(process.stdout.readline().strip())
        assert processes_with(str(directory))
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while processes_with(str(directory)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_with(str(directory)) == []
    SlurmCluster().start().stop()
    assert not directory.exists(), "the next cluster in the same slot removes what was left"


def test_absent_daemons_are_named_with_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slurm, "_search_path", lambda: "/nowhere")
    assert slurm.missing().startswith("Slurm's daemons are not installed: apt-get install ")
    assert "mariadb-server" in slurm.missing(accounting=True)


def processes_with(text: str) -> list[int]:
    """Ids of the machine's live processes with this text in their command line or environment."""
    return [pid for pid in machine.process_ids() if text in machine.process_text(pid) and pid != os.getpid()]


def test_a_machine_without_slurm_skips_and_ci_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "missing", lambda accounting: "Slurm's daemons are not installed: …")
    monkeypatch.delenv("JOBCTL_REQUIRE_SLURM", raising=False)
    with pytest.raises(pytest.skip.Exception, match="not installed"):
        next(conftest.started(accounting=False))
    monkeypatch.setenv("JOBCTL_REQUIRE_SLURM", "1")
    with pytest.raises(pytest.fail.Exception, match="not installed"):
        next(conftest.started(accounting=False))


def test_the_controllers_address_stays_when_a_node_is_replaced(slurm_cluster: SlurmCluster) -> None:
    bridge = slurm_cluster.network
    assert bridge
    address = Path(f"/sys/class/net/{bridge.name}/address")
    slurm_cluster.stop_node("n2")
    without = address.read_text().strip()
    slurm_cluster.start_node("n2")
    slurm_cluster.wait_until_idle()
    assert without == address.read_text().strip() == bridge.address
