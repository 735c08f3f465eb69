"""Two users on one shared root, on a real Slurm: neither can overwrite, stop or go on with the other's runs."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobctl.jobs import submission
from jobctl.jobs.runs import store as runs
from jobctl.slurm.target import TARGET, SlurmTarget
from tests.clusters.slurm import SlurmCluster
from tests.other_user import OTHER, as_other
from tests.slurm.conftest import UNTIL_STOPPED, Submitter
from tests.slurm.test_attempts import ENDED


@pytest.fixture
def shared(slurm_cluster: SlurmCluster, slurm_runs: Submitter) -> Iterator[Submitter]:
    """A root that everyone may write, as ``chmod 1777`` makes it."""
    root = Path(tempfile.mkdtemp(prefix="jobctl-shared-", dir="/tmp"))
    root.chmod(0o1777)
    yield Submitter(slurm_cluster, root)
    slurm_cluster.cancel_all()
    shutil.rmtree(root)


def test_each_has_runs_of_his_own_and_sees_both(shared: Submitter) -> None:
    shared.submit("mine", "echo $(id -un)")
    assert as_other(lambda: shared.submit("theirs", "echo $(id -un)")) == ""
    assert shared.wait("mine", *ENDED).state == "finished"
    assert shared.wait("theirs", *ENDED).state == "finished"
    assert "daemon" in shared.log("theirs")
    assert (shared.root / "runs/theirs").stat().st_uid == OTHER.pw_uid
    assert [run.name for run in runs.read_all(shared.root)] == ["mine", "theirs"]


def test_neither_can_touch_the_others_run(shared: Submitter) -> None:
    shared.submit("mine", UNTIL_STOPPED)
    shared.wait_for_line("mine", "started 1")
    assert "run 'mine' exists" in as_other(lambda: shared.submit("mine", None))
    assert "run 'mine' belongs to root" in as_other(lambda: TARGET.cancel(shared.read("mine")))
    assert as_other(lambda: print(SlurmTarget().statuses([shared.read("mine")]))) == ""
    with pytest.raises(AssertionError, match="PermissionError"):
        as_other(lambda: shutil.rmtree(shared.root / "runs/mine"))
    with pytest.raises(AssertionError, match="PermissionError"):
        as_other(lambda: (shared.root / "runs/mine").rename(shared.root / "runs/stolen"))
    assert shared.status("mine").state == "running"


def test_a_piped_script_cannot_go_on_with_another_users_run(shared: Submitter) -> None:
    """It says so at once, and writes nothing."""
    shared.submit("mine", "true")
    assert shared.wait("mine", *ENDED).state == "finished"
    script = TARGET.render(shared.spec("mine", "true"))
    output = Path(tempfile.mkdtemp(dir=shared.root)) / "out"
    output.parent.chmod(0o777)

    def pipe() -> None:
        command = ["sbatch", f"--output={output}", "--chdir=/tmp"]
        subprocess.run(command, input=script, text=True, check=True, capture_output=True)

    assert as_other(pipe) == ""
    shared.until(lambda: output.exists() and bool(output.read_text()), "its output", 60)
    shared.cluster.wait_until_idle()
    assert "does run mine belong to someone else?" in output.read_text()
    assert len(runs.read(shared.root, "mine").attempts) == 1


def test_a_user_who_is_not_root_retries_without_the_bad_node(shared: Submitter) -> None:
    """Requeueing on hold, changing the job and releasing it are all a user's right."""
    body = '[ "$(hostname)" != n1 ] || exit 201'
    assert as_other(lambda: shared.submit("theirs", body, retries=1)) == ""
    status = shared.wait("theirs", "finished", "failed")
    assert (status.state, status.attempt, status.nodes) == ("finished", 2, "n2")


def test_neither_resumes_nor_stops_what_is_the_others(shared: Submitter) -> None:
    shared.submit("mine", "exit 1")
    assert shared.wait("mine", *ENDED).state == "failed"
    refusal = "run 'mine' belongs to root"
    assert refusal in as_other(lambda: submission.resume(shared.root, "mine"))
    assert refusal in as_other(lambda: runs.request_stop(shared.root / "runs/mine", "cancel"))
