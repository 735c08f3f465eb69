"""``--patch`` on a cluster: the pods run the tree as it was at submission, from the volume."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.spec.patch import describe
from jobctl.k8s.code import packed
from tests.checkout import checkout
from tests.k8s.conftest import MakeCluster, made
from tests.k8s.server import ApiServer, Fault
from tests.k8s.test_verbs import SMOKE, jobctl_says

SAY_CODE = 'cat jobctl/trainer/launch.py >>"$run_dir/said"; echo "$PYTHONPATH" >>"$run_dir/said"; exit 0'
PATCHED = [*SMOKE, "--run", "demo", "--patch"]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkout that jobctl runs from."""
    made = checkout(tmp_path / "tree", "x = 1\n")
    (made / "trainer/launch.py").write_text("x = 2\n")
    monkeypatch.setattr("jobctl.jobs.cli.choices.SOURCE", made)
    return made


def sends(method: str, path: str) -> bool:
    return "/exec" in path and "receive" in path


@pytest.mark.parametrize("target", ["k8s", "k8s-trainjob"])
def test_a_patched_run_trains_with_the_tree_of_its_submission(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tree: Path, target: str
) -> None:
    cluster(SAY_CODE)
    state = describe(tree)
    code, _, err = jobctl_says(capfd, "submit", *PATCHED, "--target", target)
    assert code == 0, err
    assert "of code to /workspace/runs/demo/code on the volume" in err
    (tree / "trainer/launch.py").write_text("x = 3\n")
    assert jobctl_says(capfd, "wait", "demo")[0] == 0
    folder = server.volume / "runs/demo"
    assert (folder / "said").read_text().splitlines() == ["x = 2", str(folder / "code/src")]
    patch = json.loads((folder / "run.json").read_text())["spec"]["patch"]
    assert patch == {"tree": str(tree), "revision": state.revision, "diff_sha256": state.diff_sha256}
    assert server.store.list_all("v1", "pods", "jobctl", "app.kubernetes.io/component=writer") == []
    assert [path.name for path in folder.glob(".code*")] == []


def test_a_patched_evaluation_has_a_folder_of_its_own(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tree: Path
) -> None:
    cluster(SAY_CODE)
    jobctl_says(capfd, "submit", *PATCHED)
    jobctl_says(capfd, "wait", "demo")
    (tree / "trainer/launch.py").write_text("x = 3\n")
    assert jobctl_says(capfd, "submit", "eval", "demo", "--target", "k8s", "--patch")[0] == 0
    assert jobctl_says(capfd, "wait", "demo:eval")[0] == 0
    said = (server.volume / "runs/demo/said").read_text().splitlines()
    assert said[::2] == ["x = 2", "x = 3"]
    assert said[3].endswith("/runs/demo/code.eval/src")


def test_a_resumed_run_keeps_its_code(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tree: Path
) -> None:
    cluster(f'[ "$attempt" = 1 ] && exit 1; {SAY_CODE}')
    jobctl_says(capfd, "submit", *PATCHED)
    jobctl_says(capfd, "wait", "demo")
    (tree / "trainer/launch.py").write_text("x = 3\n")
    assert jobctl_says(capfd, "resume", "demo")[0] == 0
    assert jobctl_says(capfd, "wait", "demo")[0] == 0
    assert (server.volume / "runs/demo/said").read_text().startswith("x = 2\n")


def test_broken_connections_are_tried_again(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tree: Path
) -> None:
    cluster(SAY_CODE)
    server.faults = [Fault(sends, times=2, status=503)]
    assert jobctl_says(capfd, "submit", *PATCHED)[0] == 0
    assert jobctl_says(capfd, "wait", "demo")[0] == 0
    assert (server.volume / "runs/demo/said").read_text().startswith("x = 2\n")


def test_nothing_stays_where_the_code_does_not_arrive(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tree: Path
) -> None:
    cluster(SAY_CODE)
    server.faults = [Fault(sends, times=9, status=503)]
    code, _, err = jobctl_says(capfd, "submit", *PATCHED)
    assert (code, "the code cannot be copied to the volume" in err) == (1, True)
    assert made(server) == []


def test_a_submission_that_is_repeated_sends_no_code(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tree: Path
) -> None:
    """The pods of the first one may be reading it."""
    cluster('until [ -e "$run_dir/STOP" ]; do sleep 0.05; done; exit 200')
    jobctl_says(capfd, "submit", *PATCHED)
    (tree / "trainer/launch.py").write_text("x = 3\n")
    code, out, err = jobctl_says(capfd, "submit", *PATCHED)
    assert (code, "nothing to do" in out, "of code" in err) == (0, True, False)
    assert (server.volume / "runs/demo/code/trainer/launch.py").read_text() == "x = 2\n"


def test_who_only_reads_cannot_write_to_the_volume(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tree: Path, tmp_path: Path
) -> None:
    cluster(SAY_CODE)
    jobctl_says(capfd, "submit", *PATCHED)
    jobctl_says(capfd, "wait", "demo")
    jobctl_says(capfd, "collect", "demo", "-o", str(tmp_path / "out"))
    reader = spec_of_pod(server, "reader")
    writer = spec_of_pod(server, "writer")
    assert mount_of(reader)["readOnly"] is True
    assert mount_of(writer)["readOnly"] is False
    assert writer["securityContext"]["fsGroup"] == writer["securityContext"]["runAsUser"]


def mount_of(spec: dict[str, Any]) -> dict[str, Any]:
    """How a pod mounts the volume."""
    (mount,) = [each for each in spec["containers"][0]["volumeMounts"] if each["name"] == "workspace"]
    return dict(mount)


def spec_of_pod(server: ApiServer, component: str) -> dict[str, Any]:
    """What a pod asked for that has come and gone."""
    selector = f"app.kubernetes.io/component={component}"
    changes = server.store.changes("v1", "pods", "jobctl", selector, since=0, seconds=0.0)
    spec: dict[str, Any] = changes[0][2]["spec"]
    return spec


def test_the_archive_depends_on_the_tree_alone(tree: Path) -> None:
    archive = packed(tree)
    (tree / "trainer/launch.py").touch()
    assert packed(tree) == archive
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        assert {member.name: member.linkname for member in members if not member.isdir()} == {
            "src/jobctl/__init__.py": "",
            "src/jobctl/trainer": "../../trainer",
            "trainer/__init__.py": "",
            "trainer/launch.py": "",
        }
