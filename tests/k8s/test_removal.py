"""``delete`` and ``prune`` of runs whose files are on a cluster's volume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.k8s.conftest import MakeCluster
from tests.k8s.server import ApiServer, Fault
from tests.k8s.test_ownership import now_as
from tests.k8s.test_verbs import FINISH, SMOKE, UNTIL_STOP, jobctl_says, until

FILES = 'mkdir -p "$run_dir/checkpoints/step-1"; head -c 5000 /dev/zero >"$run_dir/checkpoints/step-1/w"; '


@pytest.fixture
def finished(server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]) -> Path:
    """Run ``demo``, which has ended, and ``other``, its neighbour on the volume."""
    cluster(FILES + FINISH)
    for run in ("demo", "other"):
        jobctl_says(capfd, "submit", *SMOKE, "--run", run)
        assert jobctl_says(capfd, "wait", run)[0] == 0

    return server.volume / "runs"


def test_a_run_goes_from_the_volume_and_from_the_cluster(
    server: ApiServer, finished: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = jobctl_says(capfd, "delete", "demo", "--yes", "--json")
    facts = json.loads(out)
    assert code == 0, err
    assert facts["removed"][0]["run"] == "demo"
    assert facts["removed"][0]["state"] == "finished"
    assert 5000 <= facts["bytes"] < 1e6
    assert sorted(path.name for path in finished.iterdir()) == ["other"]
    assert not (tmp_path / "home/runs/demo").exists()
    assert {key[3] for key in server.store.objects if key[1] == "configmaps"} == {"other"}
    assert {key[3] for key in server.store.objects if key[1] == "pytorchjobs"} == {"other"}
    until(lambda: all("demo" not in key[3] for key in server.store.objects))
    assert jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")[0] == 0


def test_checkpoints_alone_may_go_and_the_run_stays(
    finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = jobctl_says(capfd, "delete", "demo", "--checkpoints", "-y", "--json")
    assert (code, json.loads(out)["bytes"]) == (0, 5000)
    assert not (finished / "demo/checkpoints").exists()
    assert (finished / "demo/attempts/1.json").is_file()
    assert "demo: finished" in jobctl_says(capfd, "status", "demo")[1]


def test_nothing_goes_without_a_yes(
    server: ApiServer, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _, err = jobctl_says(capfd, "delete", "demo")
    assert (code != 0, "Remove 1 run" in err) == (True, True)
    assert (finished / "demo/checkpoints/step-1/w").is_file()
    until(lambda: not any("writer" in key[3] for key in server.store.objects))


def test_a_folder_that_a_link_leads_to_is_left_alone(
    finished: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Whoever writes the volume can put a link in a folder's place, or into a folder."""
    (finished / "demo/attempts/precious").symlink_to(finished / "other")
    (finished / "demo").rename(finished / "aside")
    (finished / "demo").symlink_to(finished / "other")
    code, _, err = jobctl_says(capfd, "delete", "demo", "--yes")
    assert (code, "runs/demo is a link, and is not removed" in err) == (1, True)
    code, _, err = jobctl_says(capfd, "delete", "demo", "--checkpoints", "--yes")
    assert (code, "is reached over a link" in err) == (1, True)
    (finished / "demo").unlink()
    (finished / "aside").rename(finished / "demo")
    assert jobctl_says(capfd, "delete", "demo", "--yes")[0] == 0
    assert (finished / "other/checkpoints/step-1/w").is_file()
    assert jobctl_says(capfd, "status", "other")[1].startswith("other: finished")


def test_what_is_at_work_stays(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(f"case $* in *trainer.export*) {UNTIL_STOP} ;; esac; {FILES}{FINISH}")
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    assert jobctl_says(capfd, "wait", "demo")[0] == 0
    assert jobctl_says(capfd, "submit", "export", "--target", "k8s", "--run", "demo")[0] == 0
    code, _, err = jobctl_says(capfd, "delete", "demo", "--yes")
    assert (code, "run 'demo' is at work: job demo--export" in err) == (1, True)
    code, out, _ = jobctl_says(capfd, "prune", "--older-than", "0", "--yes")
    assert (code, out) == (0, "nothing to remove\n")
    assert (server.volume / "runs/demo/checkpoints/step-1/w").is_file()


def test_another_users_run_stays_unless_said_so(
    server: ApiServer, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    now_as(server, "bob")
    code, _, err = jobctl_says(capfd, "delete", "demo", "--yes")
    assert (code, "run 'demo' belongs to ann" in err) == (1, True)
    code, out, err = jobctl_says(capfd, "prune", "--older-than", "0", "--yes")
    assert (code, out, "skipped: run 'demo' belongs to ann" in err) == (0, "nothing to remove\n", True)
    assert (finished / "demo").is_dir()
    assert jobctl_says(capfd, "delete", "demo", "--yes", "--trust-owner", "ann")[0] == 0
    assert not (finished / "demo").exists()


def test_prune_takes_what_is_old_of_clusters_as_well(
    server: ApiServer, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = jobctl_says(capfd, "prune", "--older-than", "1", "--yes")
    assert (code, out) == (0, "nothing to remove\n")
    assert not [path for method, path in server.requests if method == "POST" and "/pods/" in path]
    code, out, _ = jobctl_says(capfd, "prune", "--state", "finished", "--yes")
    assert (code, out[:14]) == (0, "removed 2 runs")
    assert list(finished.iterdir()) == []


def test_a_run_that_only_the_cluster_knows_is_removed_there(
    server: ApiServer, finished: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBCTL_ROOT", str(server.folder / "another-home"))
    code, _, err = jobctl_says(capfd, "delete", "demo", "--target", "k8s", "--yes")
    assert code == 0, err
    assert not (finished / "demo").exists()
    assert jobctl_says(capfd, "status", "demo", "--target", "k8s")[0] == 2


def test_a_removal_that_breaks_is_done_when_called_again(
    server: ApiServer, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.faults = [Fault(lambda method, path: method == "DELETE" and "configmaps" in path, status=403)]
    code, _, err = jobctl_says(capfd, "delete", "demo", "--yes")
    assert (code, (finished / "demo").exists()) == (1, False), err
    assert "demo" in jobctl_says(capfd, "list")[1]
    assert jobctl_says(capfd, "delete", "demo", "--yes")[0] == 0
    assert "demo" not in jobctl_says(capfd, "list")[1]
