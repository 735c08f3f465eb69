"""The runs that a namespace keeps: found from any host, started, stopped, edited and resumed."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as directories
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.k8s.store import ConfigMapStore
from jobctl.k8s.target import PYTORCH
from tests.jobs.cli.recorded import recorded
from tests.k8s.conftest import MakeCluster, made, spec_of
from tests.k8s.server import ApiServer
from tests.k8s.test_verbs import SMOKE, UNTIL_STOP, jobctl_says, record_of, until


@pytest.mark.parametrize(
    "words", [["doctor", "first"], ["watch", "first", "--once"], ["report", "first"], ["analyze", "first"]]
)
def test_a_note_of_a_run_is_not_taken_for_its_files(
    server: ApiServer, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert jobctl_says(capfd, "submit", *SMOKE, "--run", "first")[0] == 0
    code, out, err = jobctl_says(capfd, *words)
    assert (code, out) == (1, "")
    assert "the files of run 'first' are on a cluster's volume\n  jobctl collect first -o DIR" in err


def test_who_waits_is_told_and_does_not_ask_again_and_again(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster('until [ -e "$run_dir/go" ]; do sleep 0.05; done; exit 0')
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    until(lambda: "demo: running" in jobctl_says(capfd, "status", "demo")[1])
    server.requests.clear()
    threading.Timer(2.0, (server.volume / "runs/demo/go").touch).start()
    assert jobctl_says(capfd, "wait", "demo")[0] == 0
    assert sum("pytorchjobs?" in path for _, path in server.requests) < 10


def test_a_run_is_found_from_a_host_that_never_saw_it(
    server: ApiServer, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    monkeypatch.setenv("JOBCTL_ROOT", str(tmp_path / "elsewhere"))
    assert jobctl_says(capfd, "status", "demo")[0] == 2
    code, out, _ = jobctl_says(capfd, "status", "demo", "--target", "k8s", "--json")
    assert (code, json.loads(out)["state"]) == (0, "submitted")
    assert [run["run"] for run in json.loads(jobctl_says(capfd, "list", "--target", "k8s", "--json")[1])] == [
        "demo"
    ]
    code, _, err = jobctl_says(capfd, "status", "demoo", "--target", "k8s")
    assert (code, "did you mean 'demo'?" in err) == (2, True)
    (tmp_path / "jobctl.yaml").write_text("target: k8s\n")
    assert jobctl_says(capfd, "status", "demo")[0] == 0


def test_graceful_cancel_creates_stop_and_the_run_can_be_resumed(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(f'[ "$attempt" = 2 ] && exit 0; {UNTIL_STOP}')
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    until(lambda: (server.volume / "runs/demo/logs/1/rank-00000.log").exists())
    assert jobctl_says(capfd, "cancel", "demo", "--graceful")[0] == 0
    until(lambda: "demo: cancelled" in jobctl_says(capfd, "status", "demo")[1])
    assert record_of(server, "demo", 1)["reason"] == "cancelled"
    assert jobctl_says(capfd, "cancel", "demo")[0] == 1
    assert jobctl_says(capfd, "resume", "demo")[0] == 0
    until(lambda: "demo: finished" in jobctl_says(capfd, "status", "demo")[1])
    assert jobctl_says(capfd, "resume", "demo")[0] == 1


def test_an_edit_reaches_the_pods_and_stays_in_the_record(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(f'echo "$*" >"$run_dir/words.$attempt"; [ "$attempt" = 1 ] || exit 3; {UNTIL_STOP}')
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    until(lambda: (server.volume / "runs/demo/logs/1/rank-00000.log").exists())
    jobctl_says(capfd, "cancel", "demo", "--graceful")
    until(lambda: "demo: cancelled" in jobctl_says(capfd, "status", "demo")[1])
    code, _, err = jobctl_says(capfd, "resume", "demo", "--set", "learning_rate=2e-3")
    assert (code, err) == (0, "")
    until(lambda: "demo: failed" in jobctl_says(capfd, "status", "demo")[1])
    assert jobctl_says(capfd, "resume", "demo")[0] == 0
    until(lambda: (server.volume / "runs/demo/words.3").exists())
    for attempt in (2, 3):
        words = (server.volume / f"runs/demo/words.{attempt}").read_text()
        assert "--learning_rate=0.002" in words
        assert "--allow_changes=learning_rate" in words

    assert "learning_rate=0.002" in jobctl_says(capfd, "describe", "demo")[1]


def test_a_job_cannot_wait_for_another(server: ApiServer, capfd: pytest.CaptureFixture[str]) -> None:
    jobctl_says(capfd, "submit", *SMOKE, "--run", "first")
    code, _, err = jobctl_says(capfd, "submit", *SMOKE, "--run", "second", "--after", "first")
    assert (code, "cannot wait for another" in err) == (1, True)
    assert not server.store.list_all("v1", "configmaps", "jobctl", "app.kubernetes.io/instance=second")


def runs(tmp_path: Path) -> ConfigMapStore:
    """The runs of the site's namespace, with their notes in a home of this test."""
    return PYTORCH.store(spec_of().site, tmp_path / "home")


def test_a_state_is_that_of_just_this_spec(server: ApiServer, tmp_path: Path) -> None:
    """A pipeline asks so whether a step is done. Other settings under the same name are another job."""
    store = runs(tmp_path)
    assert store.state(spec_of("demo")) is None
    store.start(spec_of("demo"))
    assert store.state(spec_of("demo")) == "submitted"
    assert store.state(spec_of("demo", sets=("max_iters=7",))) is None


def test_a_run_of_this_host_is_not_taken_for_the_note_of_a_clusters(
    server: ApiServer, tmp_path: Path
) -> None:
    choices = Choices(model="qwen3_smoke", target="local", run="demo")
    recorded(tmp_path / "home", resolve(choices, version="1", root=str(tmp_path / "home")).spec)
    with pytest.raises(UserError, match="run 'demo' exists: "):
        runs(tmp_path).start(spec_of("demo"))

    assert made(server) == []


def test_a_started_run_leaves_a_note_that_names_its_cluster(server: ApiServer, tmp_path: Path) -> None:
    started = runs(tmp_path).start(spec_of("demo"))
    note = directories.read(tmp_path / "home", "demo")
    assert (started.new, started.job_id, note.target) == (True, "demo", "k8s")
    assert runs(tmp_path).start(spec_of("demo")).new is False


def test_who_may_not_watch_waits_all_the_same(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = runs(tmp_path)
    run = store.start(spec_of("demo")).run
    server.rights = {right for right in server.rights if right[2] != "watch"}
    asked = len(server.requests)
    store.await_change(run, seconds=0.0)
    assert [path for _, path in server.requests[asked:] if "watch=true" in path]


def test_a_wait_for_an_ended_run_watches_nothing(server: ApiServer, tmp_path: Path) -> None:
    """Nothing of it would change, and the watch would last its whole time."""
    store = runs(tmp_path)
    run = store.start(spec_of("demo")).run
    ended = {"conditions": [{"type": "Succeeded", "status": "True"}]}
    server.store.patch("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo", {"status": ended})
    store.await_change(run, seconds=600)
    assert not [path for _, path in server.requests if "watch=true" in path]


def test_a_stop_of_a_training_that_waits_deletes_its_job(server: ApiServer, tmp_path: Path) -> None:
    """Where no pod trains, nothing sees STOP, and nothing has to be saved."""
    store = runs(tmp_path)
    store.request_stop(store.start(spec_of("demo", nodes=2)).run)
    assert made(server) == ["configmaps"]
    run = store.find("demo")
    assert run is not None
    assert PYTORCH.statuses([run])[0].state == "cancelled"
