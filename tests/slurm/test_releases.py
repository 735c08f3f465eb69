"""What matters most, on the Slurm of other Debian releases: 24.11 of trixie, and the newest of testing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

import jobctl.slurm.target
from jobctl.jobs.targets.registry import load_target
from tests.absent import absent
from tests.clusters import releases
from tests.clusters.slurm import SlurmCluster, missing
from tests.jobs.targets import test_allocation as allocation
from tests.slurm import test_arrays as arrays
from tests.slurm import test_attempts as attempts
from tests.slurm.conftest import FIRST_UNTIL_STOPPED, TERMINATED, Submitter

pytestmark = pytest.mark.xdist_group("slurm-releases")
RELEASES = ("trixie", "testing")


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest) -> Iterator[SlurmCluster]:
    """A cluster with accounts, of each release."""
    try:
        if reason := missing(accounting=True):
            raise releases.Unavailable(reason)

        releases.programs_of(request.param)
    except releases.Unavailable as reason:
        skip(str(reason))

    cluster = SlurmCluster(release=request.param).start(accounting=True)
    yield cluster
    cluster.stop()


def skip(reason: str) -> NoReturn:
    """Skip the tests of a release that cannot be had. Where Slurm is required, that is a failure."""
    absent("JOBCTL_REQUIRE_SLURM", reason)


@pytest.fixture
def runs(release: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Submitter]:
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, release.env[name])

    monkeypatch.setattr(jobctl.slurm.target, "QUEUE_SECONDS", 0.0)
    yield Submitter(release, tmp_path / "root")
    release.cancel_all()


def test_it_is_another_slurm(release: SlurmCluster) -> None:
    version = release.run("sinfo", "--version").split()[-1]
    assert [int(number) for number in version.split(".")[:2]] >= [24, 11]


def test_a_task_of_an_array_starts_again_alone(runs: Submitter) -> None:
    arrays.test_a_task_that_starts_again_leaves_the_others_alone(runs)


def test_a_dead_node_makes_another_attempt(runs: Submitter) -> None:
    """Newer versions start the next attempt at once, so nobody sees the job wait."""
    runs.submit("theta", FIRST_UNTIL_STOPPED, nodes=2, retries=0)
    runs.wait_for_line("theta", "started 1 on n2")
    runs.cluster.stop_node("n2")
    runs.cluster.run("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    runs.cluster.start_node("n2")
    status = runs.wait("theta", *attempts.ENDED)
    assert (status.state, status.attempt) == ("finished", 2)
    assert attempts.reasons(runs, "theta")[0] in ("node failure", "requeued")


def test_a_failure_is_retried_and_the_accounts_know_both_attempts(runs: Submitter) -> None:
    attempts.test_a_failure_is_retried_as_often_as_is_allowed(runs, 1, "failed")
    history = jobctl.slurm.target.Slurm().history(0)
    assert [job.state for job in history if job.name == "alpha"] == ["REQUEUED", "FAILED"]


def test_a_cancelled_run_saves_and_stays_ended(runs: Submitter) -> None:
    runs.submit("lambda", TERMINATED)
    runs.wait_for_line("lambda", "ready")
    load_target("slurm").cancel(runs.read("lambda"))
    assert runs.wait("lambda", "cancelled", "failed").state == "cancelled"
    assert (runs.root / "runs/lambda/checkpointed").exists()


def test_a_job_that_is_preempted_starts_again(runs: Submitter) -> None:
    body = attempts.until_attempt(2, TERMINATED)
    runs.submit("nu", body, partition="low", exclusive="true", nodes=2)
    runs.wait_for_line("nu", "ready")
    runs.submit("urgent", "sleep 1", exclusive="true", nodes=2)
    assert runs.wait("nu", *attempts.ENDED).state == "finished"
    assert attempts.reasons(runs, "nu")[0] == "preempted"


def test_an_allocation_holds_a_run(runs: Submitter, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = allocation.Holder(runs.cluster, runs.root, monkeypatch)
    allocation.test_a_run_takes_the_nodes_of_the_allocation_and_leaves_it_as_it_was(holder)
    allocation.test_nothing_is_requeued(holder)
