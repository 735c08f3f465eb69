"""Runs on two real clusters that share a slurmdbd, first as neighbours and then as a federation."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobctl.slurm.target
from jobctl.jobs import submission
from jobctl.jobs.core.errors import UserError
from jobctl.slurm.client import Slurm, SlurmRefused
from jobctl.slurm.survey import survey
from jobctl.slurm.target import TARGET
from tests.clusters.slurm import SlurmCluster
from tests.slurm.conftest import FIRST_UNTIL_STOPPED, TERMINATED, UNTIL_STOPPED, Submitter
from tests.slurm.test_attempts import ENDED

ANNEX = {"slurm.cluster": "annex"}


@pytest.fixture(scope="module")
def annex(slurm_accounting_daemons: SlurmCluster) -> Iterator[SlurmCluster]:
    """A second cluster, whose accounts are with those of the first."""
    cluster = SlurmCluster(name="annex").start(beside=slurm_accounting_daemons)
    yield cluster
    cluster.stop()


@pytest.fixture
def two(
    slurm_accounting_cluster: SlurmCluster,
    annex: SlurmCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Submitter]:
    """Both clusters, on a login node of the first."""
    monkeypatch.setattr(jobctl.slurm.target, "QUEUE_SECONDS", 0.0)
    yield Submitter(slurm_accounting_cluster, tmp_path / "root")
    annex.cancel_all()


def ids_of(run: str, client: Slurm) -> set[str]:
    """The jobs of a run that the accounts know."""
    return {job.id for job in client.history(0) if job.name == run}


def test_a_run_of_the_other_cluster_goes_on_there(two: Submitter, annex: SlurmCluster) -> None:
    job = two.submit("alpha", FIRST_UNTIL_STOPPED, **ANNEX)
    two.wait_for_line("alpha", "started 1")
    two.submit("beta", UNTIL_STOPPED)
    two.wait_for_line("beta", "started 1")
    both = TARGET.statuses([two.read("alpha"), two.read("beta")])
    assert [(status.state, status.nodes) for status in both] == [("running", "n1"), ("running", "n1")]
    assert annex.run("squeue", "-h", "-o", "%i") == job
    assert two.cluster.run("squeue", "-h", "-o", "%i") == both[1].job_id

    annex.run("scancel", "--signal=USR2", "--batch", job)
    status = two.wait("alpha", *ENDED)
    assert (status.state, status.attempt, status.job_id) == ("finished", 2, job)
    assert two.read("alpha").record.spec.site.slurm.cluster == "annex"


def test_a_run_of_the_other_cluster_is_cancelled_and_resumed_there(
    two: Submitter, annex: SlurmCluster
) -> None:
    two.submit("gamma", f'[ "$ATTEMPT" = 1 ] || exit 0; {TERMINATED}', **ANNEX)
    two.wait_for_line("gamma", "ready")
    TARGET.cancel(two.read("gamma"))
    assert two.wait("gamma", *ENDED).state == "cancelled"
    _, job = submission.resume(two.root, "gamma")
    status = two.wait("gamma", "finished")
    assert (status.job_id, status.attempt) == (job, 2)
    two.until(lambda: job in ids_of("gamma", Slurm(cluster="annex")), "its accounts", 30)
    assert ids_of("gamma", Slurm()) == set()
    with pytest.raises(UserError, match=r"slurm\.cluster"):
        submission.resume_run(two.read("gamma"), sets=["slurm.cluster=lab"])


@pytest.mark.parametrize(("cluster", "comment"), [("", ""), ("annex", "jobctl:{root}/runs/{run}")])
def test_what_the_queue_has_forgotten_the_accounts_know_with_comments_or_without(
    two: Submitter, cluster: str, comment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = f"forgotten{cluster}"
    job = two.submit(run, UNTIL_STOPPED, **{"slurm.cluster": cluster})
    two.wait_for_line(run, "started 1")
    slurm = Slurm(cluster=cluster)
    slurm.answer(["scancel", "--full", "--signal=KILL", job])

    def records() -> list[str]:
        return [entry.comment for entry in slurm.history(0) if (entry.id, entry.state) == (job, "CANCELLED")]

    two.until(lambda: len(records()) == 1, "its accounts", 10, lambda: slurm.history(0))
    assert records() == [comment.format(root=two.root, run=run)]
    monkeypatch.setattr(TARGET, "_queued", lambda *asked: [])
    status = two.status(run)
    assert (status.state, status.job_id) == ("cancelled", job)


def test_a_piped_job_stays_where_it_is_whatever_cluster_it_inherits(
    two: Submitter, annex: SlurmCluster
) -> None:
    script = jobctl.slurm.target.TARGET.render(two.spec("delta", FIRST_UNTIL_STOPPED, **ANNEX))
    inherited = "--export=ALL,SLURM_CLUSTERS=lab,SLURM_WORKING_CLUSTER=lab:127.0.0.1:1:9728:109"
    job = two.cluster.run("sbatch", "--parsable", "--output=/dev/null", inherited, stdin=script).split(";")[0]
    two.wait_for_line("delta", "started 1")
    annex.run("scancel", "--signal=USR2", "--batch", job)
    assert two.wait("delta", *ENDED).state == "finished"
    assert len(two.read("delta").attempts) == 2


def test_a_job_on_another_cluster_than_its_run_says_does_not_begin(two: Submitter, tmp_path: Path) -> None:
    """A variable of sbatch wins over the script."""
    script = jobctl.slurm.target.TARGET.render(two.spec("epsilon", "true", **ANNEX))
    output = tmp_path / "out"
    subprocess.run(
        ["sbatch", f"--output={output}"], input=script, text=True, check=True, stdout=subprocess.PIPE,
        env={**two.cluster.env, "SBATCH_CLUSTERS": "lab"},
    )  # fmt: skip
    words = "this job is on the cluster lab, but slurm.cluster is annex"
    two.until(lambda: output.exists() and words in output.read_text(), words, 30)
    assert not (two.root / "runs/epsilon").exists()


def test_only_the_run_says_which_cluster(two: Submitter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CLUSTERS", "annex")
    with pytest.raises(UserError, match="SLURM_CLUSTERS"):
        two.submit("zeta", "true")
    two.submit("zeta", "true", **ANNEX)
    assert two.wait("zeta", *ENDED).state == "finished"


def test_a_cluster_that_nobody_knows_is_refused_at_once(two: Submitter) -> None:
    with pytest.raises(SlurmRefused, match="No cluster 'nope'") as refused:
        two.submit("eta", "true", **{"slurm.cluster": "nope"})
    assert "sacctmgr list clusters" in refused.value.hint
    assert not (two.root / "runs/eta").exists()


def test_a_run_does_not_wait_for_one_of_another_cluster(two: Submitter) -> None:
    two.submit("theta", UNTIL_STOPPED)
    with pytest.raises(UserError, match="a job cannot wait for a job of another cluster"):
        two.submit("iota", "true", after=("theta",), **ANNEX)


def test_a_silent_cluster_hides_no_run_of_another(
    two: Submitter, annex: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobctl.slurm.target, "LOOK_SECONDS", 1.0)
    two.submit("kappa", UNTIL_STOPPED, **ANNEX)
    two.submit("lambda", UNTIL_STOPPED)
    two.wait_for_line("kappa", "started 1")
    two.wait_for_line("lambda", "started 1")
    annex.stop_controller()
    try:
        both = TARGET.statuses([two.read("kappa"), two.read("lambda")])
    finally:
        annex.start_controller()

    assert [status.state for status in both] == ["unknown", "running"]
    two.until(lambda: two.status("kappa").state == "running", "its cluster again", 60)


def test_a_new_site_is_of_the_cluster_that_was_asked(two: Submitter, annex: SlurmCluster) -> None:
    annex.run("scontrol", "create", "partition=annexed", "nodes=n1")
    known = {offer.key: offer.values for offer in survey(Slurm(cluster="annex").answer, "annex").offers}
    assert "annexed" in known["slurm.partition"]


@pytest.fixture
def federation(two: Submitter) -> Iterator[Submitter]:
    """Either cluster starts what is submitted to one of them."""
    two.cluster.run("sacctmgr", "-i", "add", "federation", "both", "clusters=lab,annex")
    two.until(lambda: "annex" in two.cluster.run("scontrol", "show", "federation"), "a federation", 30)
    two.until(lambda: "Synced:Yes" in two.cluster.run("scontrol", "show", "federation"), "its members", 30)
    yield two
    two.cluster.run("sacctmgr", "-i", "delete", "federation", "both")


def test_a_run_of_a_federation_is_followed_to_whichever_cluster_runs_it(federation: Submitter) -> None:
    """The cluster that a job was submitted to says REVOKED of one that another has started."""
    whole = {"exclusive": "true", "nodes": 2}
    names = ("mu", "nu")
    jobs = [federation.submit(name, FIRST_UNTIL_STOPPED, **whole) for name in names]
    assert all(int(job) > 1 << 26 for job in jobs), "the cluster is in the upper bits"
    for name in names:
        federation.wait_for_line(name, "started 1")

    found = TARGET.statuses([federation.read(name) for name in names])
    assert [(status.state, status.job_id) for status in found] == [("running", job) for job in jobs]
    assert "REVOKED" in federation.cluster.run("squeue", "-h", "--local", "--states=all", "-o", "%T")

    for name in names:
        (federation.root / "runs" / name / "STOP").touch()

    for name in names:
        status = federation.wait(name, *ENDED)
        assert (status.state, status.attempt) == ("finished", 2)

    federation.until(lambda: ids_of("mu", Slurm()) | ids_of("nu", Slurm()) == set(jobs), "their accounts", 30)


def test_a_run_of_a_federation_is_cancelled_wherever_it_runs(federation: Submitter) -> None:
    for name in ("xi", "omicron"):
        federation.submit(name, TERMINATED, exclusive="true", nodes=2)
    for name in ("xi", "omicron"):
        federation.wait_for_line(name, "ready")
        TARGET.cancel(federation.read(name))
        assert federation.wait(name, *ENDED).state == "cancelled"
