"""Runs on a real Slurm, from submission to their end; the trainer is a stand-in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from jobctl.jobs import submission
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.cancelled import cancelled_at
from jobctl.slurm.target import TARGET
from tests.clusters.machine import process_ids, process_text
from tests.clusters.slurm import SlurmCluster
from tests.slurm.conftest import FIRST_UNTIL_STOPPED, TERMINATED, UNTIL_STOPPED, Submitter
from tests.slurm.test_attempts import ENDED


def test_a_run_goes_from_submission_to_its_end(slurm_runs: Submitter) -> None:
    job = slurm_runs.submit("alpha", "sleep 1", nodes=2)
    assert slurm_runs.status("alpha").state in ("pending", "running")
    status = slurm_runs.wait("alpha", "finished", "failed")
    assert (status.state, status.job_id, status.attempt, status.exit_code) == ("finished", job, 1, 0)
    assert status.nodes == "n[1-2]"
    run = slurm_runs.read("alpha")
    assert run.last is not None
    assert (run.last.job_id, run.last.reason) == (job, "finished")
    assert sorted(line for line in slurm_runs.log("alpha") if "started" in line) == [
        "started 1 on n1",
        "started 1 on n2",
    ]
    assert "run alpha, attempt 1" in (run.path / "logs" / "slurm.out").read_text()


def test_a_run_with_a_comment_of_its_own_is_found_by_it(slurm_runs: Submitter) -> None:
    words = 'project "x"; jobctl:/elsewhere'
    job = slurm_runs.submit("alpha", UNTIL_STOPPED, comment=words)
    shown = slurm_runs.cluster.run("squeue", "-h", "-o", "%k")
    assert shown == f"{words} jobctl:{slurm_runs.root}/runs/alpha"
    assert slurm_runs.status("alpha").job_id == job
    TARGET.cancel(slurm_runs.read("alpha"))
    slurm_runs.until(lambda: slurm_runs.cluster.run("squeue", "-h", "-j", job) == "", "an empty queue", 60)


def test_a_refused_submission_leaves_nothing(slurm_runs: Submitter) -> None:
    with pytest.raises(UserError, match="invalid partition"):
        slurm_runs.submit("beta", "true", partition="nope")
    assert not (slurm_runs.root / "runs" / "beta").exists()


@pytest.mark.parametrize(
    ("wish", "words"),
    [({"time_limit": "24:00:00"}, "longer than the partition allows"), ({"nodes": "2"}, "more nodes")],
)
def test_a_job_that_could_never_start_is_refused(
    slurm_runs: Submitter, wish: dict[str, str], words: str
) -> None:
    """sbatch takes it, and would leave it in the queue for good."""
    wishes = {"partition": "short", "time_limit": "00:05:00"} | wish
    with pytest.raises(UserError, match=words) as refused:
        submission.submit(slurm_runs.spec("beta", "true", after=(), **wishes))
    assert "sinfo" in refused.value.hint
    assert not (slurm_runs.root / "runs" / "beta").exists()
    assert slurm_runs.cluster.run("squeue", "-h") == ""


@pytest.mark.parametrize("trainer", [TERMINATED, "trap '' TERM; echo ready; while :; do sleep 0.1; done"])
def test_cancel_ends_a_run_for_good(slurm_runs: Submitter, trainer: str) -> None:
    """Also when the trainer uses its last seconds to checkpoint and says that it wants to go on."""
    slurm_runs.submit("gamma", trainer, nodes=2)
    slurm_runs.wait_for_line("gamma", "ready")
    TARGET.cancel(slurm_runs.read("gamma"))
    assert slurm_runs.wait("gamma", "cancelled", "failed", "stopped", "finished").state == "cancelled"
    slurm_runs.cluster.wait_until_idle()
    assert slurm_runs.cluster.run("squeue", "-h") == ""
    mine = f"RUN_DIR={slurm_runs.root}/runs/gamma\0"
    assert [pid for pid in process_ids() if mine in process_text(pid)] == []


def test_scancel_by_hand_ends_a_run_for_good(slurm_runs: Submitter) -> None:
    job = slurm_runs.submit("gamma", TERMINATED)
    slurm_runs.wait_for_line("gamma", "ready")
    slurm_runs.cluster.run("scancel", job)
    slurm_runs.cluster.wait_until_idle()
    assert (slurm_runs.root / "runs" / "gamma" / "checkpointed").exists()
    assert slurm_runs.cluster.run("squeue", "-h") == ""
    assert slurm_runs.status("gamma").state == "cancelled"
    assert slurm_runs.read("gamma").attempts[0].reason == "cancelled"


def test_a_waiting_run_is_cancelled(slurm_runs: Submitter) -> None:
    slurm_runs.submit("first", UNTIL_STOPPED, exclusive="true", nodes=2)
    slurm_runs.submit("second", "true", nodes=2)
    slurm_runs.wait_for_line("first", "started 1")
    slurm_runs.until(lambda: "free nodes" in slurm_runs.status("second").detail, "a reason", 20)
    TARGET.cancel(slurm_runs.read("second"))
    assert slurm_runs.status("second").state == "cancelled"
    assert slurm_runs.status("first").state == "running"

    # For readers that ask no scheduler. A run that has begun says itself how it ended.
    second = slurm_runs.root / "runs" / "second"
    assert cancelled_at(second) is not None
    submission.resume(slurm_runs.root, "second")
    assert cancelled_at(second) is None
    TARGET.cancel(slurm_runs.read("second"))
    TARGET.cancel(slurm_runs.read("first"))
    assert slurm_runs.wait("first", *ENDED).state == "cancelled"
    assert cancelled_at(slurm_runs.root / "runs" / "first") is None


def test_a_graceful_cancel_checkpoints_and_is_not_requeued(slurm_runs: Submitter) -> None:
    job = slurm_runs.submit("delta", UNTIL_STOPPED)
    slurm_runs.wait_for_line("delta", "started 1")
    (slurm_runs.root / "runs" / "delta" / "STOP").write_text("cancel\n")
    assert slurm_runs.wait("delta", "cancelled", "stopped", "failed", "finished").state == "cancelled"
    slurm_runs.wait_for_line("delta", "checkpointed")
    slurm_runs.cluster.wait_until_idle()
    assert slurm_runs.cluster.run("squeue", "-h", "-j", job) == ""


def test_the_time_limit_makes_another_attempt(slurm_runs: Submitter) -> None:
    """One minute is the shortest limit. Slurm warns up to a minute early, so jobctl asks for 20 s of warning."""
    job = slurm_runs.submit("epsilon", FIRST_UNTIL_STOPPED, time_limit="00:01:00")
    slurm_runs.wait_for_line("epsilon", "checkpointed", seconds=70)
    slurm_runs.wait_for_requeue(job)
    status = slurm_runs.wait("epsilon", "finished", "failed", "cancelled")
    assert (status.state, status.attempt, status.job_id) == ("finished", 2, job)
    first, second = slurm_runs.read("epsilon").attempts
    assert (first.exit_code, first.reason, second.exit_code) == (200, "time limit", 0)
    log = [line for line in slurm_runs.log("epsilon") if not line.startswith(("jobctl", "srun"))]
    assert log == ["started 1 on n1", "checkpointed", "started 2 on n1", "finished"]


@pytest.mark.parametrize("code", [1, 2])
def test_a_failure_is_not_retried_but_can_be_resumed(slurm_runs: Submitter, code: int) -> None:
    slurm_runs.submit("zeta", f'[ "$ATTEMPT" != 1 ] || exit {code}')
    status = slurm_runs.wait("zeta", "failed", "finished")
    assert (status.state, status.exit_code, status.attempt) == ("failed", code, 1)
    slurm_runs.cluster.wait_until_idle()
    assert slurm_runs.cluster.run("squeue", "-h") == ""
    _, job = submission.resume(slurm_runs.root, "zeta")
    status = slurm_runs.wait("zeta", "finished")
    assert (status.attempt, status.job_id) == (2, job)


def test_a_run_has_one_job_at_a_time(slurm_runs: Submitter) -> None:
    slurm_runs.submit("eta", UNTIL_STOPPED)
    run = slurm_runs.read("eta")
    with pytest.raises(UserError, match="has job"):
        TARGET.submit(run, run.path / "script")


def test_an_evaluation_beside_a_live_training_is_a_job_of_its_own(slurm_runs: Submitter) -> None:
    """Once it was refused, or made ``status`` call the training finished and took away its STOP."""
    training = slurm_runs.submit("iota", UNTIL_STOPPED)
    slurm_runs.wait_for_line("iota", "started 1")
    evaluation = slurm_runs.submit("iota", "echo scored; exit 3", stage="eval")
    assert evaluation != training
    status = slurm_runs.wait("iota:eval", "failed", "finished")
    assert (status.state, status.job_id, status.attempt, status.exit_code) == ("failed", evaluation, 2, 3)
    status = slurm_runs.status("iota")
    assert (status.state, status.job_id, status.attempt) == ("running", training, 1)
    assert "scored" in slurm_runs.log("iota:eval")
    assert "scored" not in slurm_runs.log("iota")

    slurm_runs.submit("iota", "echo scoring; sleep 600", stage="eval")
    slurm_runs.wait_for_line("iota", "scoring")
    TARGET.cancel(slurm_runs.read("iota:eval"))
    assert slurm_runs.wait("iota:eval", "cancelled", "failed", "finished").state == "cancelled"
    assert slurm_runs.status("iota").state == "running"
    runs.request_stop(slurm_runs.root / "runs" / "iota", "cancel")
    assert slurm_runs.wait("iota", "cancelled", "failed", "finished", "stopped").state == "cancelled"


def test_a_dead_node_makes_another_attempt(slurm_runs: Submitter) -> None:
    job = slurm_runs.submit("theta", FIRST_UNTIL_STOPPED, nodes=2)
    slurm_runs.wait_for_line("theta", "started 1 on n2")
    slurm_runs.cluster.stop_node("n2")
    slurm_runs.cluster.run("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    slurm_runs.cluster.start_node("n2")
    slurm_runs.wait_for_requeue(job)
    status = slurm_runs.wait("theta", "finished", "failed", "lost", "cancelled")
    assert (status.state, status.attempt) == ("finished", 2)


def test_a_run_after_another_waits_for_it(slurm_runs: Submitter) -> None:
    slurm_runs.submit("parent", 'until [ -e "$RUN_DIR/go" ]; do sleep 0.1; done')
    slurm_runs.submit("child", "true", after=("parent",))
    slurm_runs.wait_for_line("parent", "started 1")
    assert "waiting for another job" in slurm_runs.status("child").detail
    (slurm_runs.root / "runs" / "parent" / "go").touch()
    assert slurm_runs.wait("child", "finished", "failed").state == "finished"
    slurm_runs.submit("grandchild", "true", after=("parent", "child"))
    assert slurm_runs.wait("grandchild", "finished", "failed").state == "finished"


def test_a_run_after_a_failed_one_is_refused(slurm_runs: Submitter) -> None:
    slurm_runs.submit("parent", "exit 3")
    slurm_runs.wait("parent", "failed")
    with pytest.raises(UserError, match="after 'parent', which is failed"):
        slurm_runs.submit("child", "true", after=("parent",))
    assert not (slurm_runs.root / "runs" / "child").exists()


def test_a_lost_run_says_so(slurm_runs: Submitter, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm_runs.submit("iota", UNTIL_STOPPED)
    slurm_runs.wait_for_line("iota", "started 1")
    monkeypatch.setattr(TARGET, "_queued", lambda *asked: [])
    assert slurm_runs.status("iota").state == "lost"


@pytest.mark.parametrize(
    "name", ["a b", "it's", '"q"', "$(touch evil) `id`", "100%j", "#;&|<>", "é漢", "back\\slash", "-n"]
)
def test_any_root_works(slurm_cluster: SlurmCluster, slurm_runs: Submitter, name: str) -> None:
    odd = Submitter(slurm_cluster, slurm_runs.root / name)
    odd.submit("odd", "true")
    assert odd.wait("odd", "finished", "failed", "lost", "cancelled").state == "finished"
    assert any("started 1" in line for line in odd.log("odd"))
    assert "run odd" in (odd.root / "runs" / "odd" / "logs" / "slurm.out").read_text()


def test_a_rendered_script_runs_from_a_pipe(slurm_runs: Submitter, tmp_path: Path) -> None:
    spec = slurm_runs.spec(None, FIRST_UNTIL_STOPPED, nodes=2)
    sbatch = subprocess.run(
        ["sbatch", "--parsable"],
        input=TARGET.render(spec),
        text=True,
        capture_output=True,
        check=True,
        cwd=tmp_path,
    )
    job = sbatch.stdout.strip()
    run = f"{spec.run_prefix}-{job}"
    slurm_runs.wait_for_line(run, "started 1 on n2")
    status = slurm_runs.status(run)
    assert (status.state, status.job_id, status.nodes) == ("running", job, "n[1-2]")
    TARGET.cancel(slurm_runs.read(run))
    assert slurm_runs.wait(run, "cancelled", "stopped", "lost").state == "cancelled"


def test_a_job_submitted_inside_an_allocation_is_its_own(slurm_runs: Submitter) -> None:
    """sbatch passes on the environment of salloc, Jupyter or VS Code, and srun would obey it."""
    script = slurm_runs.root / "script"
    spec = slurm_runs.spec(
        "inside", 'echo "cpus $(nproc), mem $SLURM_MEM_PER_GPU."', nodes=2, cpus_per_task=2
    )
    script.write_text(TARGET.render(spec))
    foreign = (
        "export SLURM_MEM_PER_GPU=5 SLURM_MEM_PER_NODE=70 SLURM_MEM_PER_CPU=3 SLURM_GPUS_PER_TASK=1 "
        "SLURM_NTASKS_PER_NODE=4 SLURM_CPU_BIND=quiet,mask_cpu:0x1 SBATCH_EXPORT=NONE"
    )
    slurm_runs.cluster.run(
        "salloc",
        "--nodes=1",
        "--ntasks=3",
        "--mem-per-cpu=100",
        "--quiet",
        "bash",
        "-c",
        f"{foreign}; sbatch --output=/dev/null {script}",
    )
    slurm_runs.until((slurm_runs.root / "runs/inside/run.json").exists, "its run", 60)
    assert slurm_runs.wait("inside", *ENDED).state == "finished", slurm_runs.log("inside")
    lines = [line for line in slurm_runs.log("inside") if line.startswith("cpus")]
    assert len(lines) == 2
    assert all(line.endswith("mem .") for line in lines)


def test_a_job_has_its_share_of_a_node_and_leaves_the_rest(slurm_runs: Submitter) -> None:
    asked = slurm_runs.submit("part", "echo ready; sleep 600", processes_per_node=2)
    slurm_runs.wait_for_line("part", "ready")
    facts = slurm_runs.cluster.run("scontrol", "--oneliner", "show", "job", asked)
    assert "CPUs/Task=2" in facts
    assert "MinMemoryCPU=400M" in facts, "Slurm's default a CPU, and not the whole node"
    slurm_runs.submit("beside", "true", nodelist="n1")
    assert slurm_runs.wait("beside", *ENDED).state == "finished"


def test_a_piped_run_can_be_resumed(slurm_runs: Submitter) -> None:
    script = TARGET.render(slurm_runs.spec("piped", '[ -e "$JOBCTL_ROOT/mended" ] || exit 1'))
    slurm_runs.cluster.run("sbatch", "--output=/dev/null", stdin=script)
    slurm_runs.until((slurm_runs.root / "runs/piped/run.json").exists, "its run", 60)
    assert slurm_runs.wait("piped", *ENDED).state == "failed"
    (slurm_runs.root / "mended").touch()
    submission.resume(slurm_runs.root, "piped")
    status = slurm_runs.wait("piped", "finished")
    assert status.attempt == 2
