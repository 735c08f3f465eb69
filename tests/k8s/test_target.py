"""Kubernetes as a target: states that outlive a job, its end, and clusters that do not answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import jobctl.k8s.api
import jobctl.k8s.connection
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.places import at_site
from jobctl.jobs.runs.store import Run
from jobctl.k8s.target import PYTORCH
from tests.k8s.conftest import MakeCluster, apply, spec_of
from tests.k8s.server import ApiServer, Fault
from tests.k8s.test_verbs import FINISH, SMOKE, UNTIL_STOP, jobctl_says, until


def test_a_recorded_context_that_is_gone_hides_no_other_run(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    assert jobctl_says(capfd, "submit", *SMOKE, "--run", "first")[0] == 0
    named = ["--context", "test", "--run", "second"]
    assert jobctl_says(capfd, "submit", *SMOKE, *named)[0] == 0
    file = server.kubeconfig()
    file.write_text(
        file.read_text().replace("name: test", "name: fresh").replace("context: test", "context: fresh")
    )
    PYTORCH.clusters.forget()
    code, out, _ = jobctl_says(capfd, "list")
    states = dict(line.split()[:2] for line in out.splitlines()[1:])
    assert (code, states) == (0, {"first": "submitted", "second": "unknown"})


def test_a_cluster_that_does_not_answer_hides_no_other_runs(
    server: ApiServer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobctl_says(capfd, "submit", *SMOKE, "--run", "one")
    jobctl_says(capfd, "submit", *SMOKE, "--run", "two")
    monkeypatch.setattr(jobctl.k8s.connection, "PATIENCE", 0.2)
    server.faults = [Fault(times=1000, reset=True)]
    code, out, _ = jobctl_says(capfd, "list", "--json")
    assert (code, [run["state"] for run in json.loads(out)]) == (0, ["unknown", "unknown"])


def test_cancel_deletes_the_job_and_keeps_the_record(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(UNTIL_STOP)
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    until(lambda: "demo: running" in jobctl_says(capfd, "status", "demo")[1])
    assert jobctl_says(capfd, "cancel", "demo")[0] == 0
    until(lambda: "demo: cancelled" in jobctl_says(capfd, "status", "demo")[1])
    assert not server.store.list_all("kubeflow.org/v1", "pytorchjobs", "jobctl")
    assert jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")[0] == 2
    assert jobctl_says(capfd, "resume", "demo")[0] == 0


def test_how_a_run_ended_is_known_when_its_job_is_gone(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    """As after a week, when Kubernetes removes ended jobs."""
    cluster(FINISH)
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    server.store.delete("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")
    assert json.loads(jobctl_says(capfd, "status", "demo", "--json")[1])["state"] == "finished"
    assert jobctl_says(capfd, "resume", "demo")[0] == 1


def test_how_a_run_ended_is_unknown_where_its_annotation_is_broken(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(FINISH)
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    server.store.delete("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")
    record = server.store.objects["v1", "configmaps", "jobctl", "demo"]
    record["metadata"]["annotations"]["jobctl/ended"] = "[]"
    assert json.loads(jobctl_says(capfd, "status", "demo", "--json")[1])["state"] == "unknown"


def test_a_running_attempt_has_its_number(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(f'[ "$attempt" = 1 ] && exit 200; {UNTIL_STOP}')
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    until(lambda: json.loads(jobctl_says(capfd, "status", "demo", "--json")[1])["attempt"] == 2)


def started(name: str = "demo", **more: object) -> Run:
    store = PYTORCH.store(spec_of().site, Path("/no/home"))
    apply(PYTORCH, spec_of(name, **more))
    run = store.find(name)
    assert run is not None
    return run


def test_a_namespace_that_does_not_answer_is_an_error_where_it_is_the_only_one(server: ApiServer) -> None:
    """Whoever asks for one run wants the reason. In a list, the runs of other namespaces have their states."""
    here = started("one")
    elsewhere = at_site(started("two"), namespace="nowhere")
    server.faults = [Fault(lambda _, path: "/nowhere/" in path, status=403, times=1000)]
    states = [status.state for status in PYTORCH.statuses([here, elsewhere])]
    assert states == ["submitted", "unknown"]
    with pytest.raises(UserError):
        PYTORCH.statuses([elsewhere])


def test_who_may_only_read_sees_how_a_run_ended(server: ApiServer) -> None:
    """The end is noted in the record for later, and a user without that right can still look."""
    run = started()
    ended = {"conditions": [{"type": "Succeeded", "status": "True"}]}
    server.store.patch("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo", {"status": ended})
    server.rights = {right for right in server.rights if right[2] != "patch"}
    assert PYTORCH.statuses([run])[0].state == "finished"


def test_a_cancel_is_noted_before_the_job_goes(server: ApiServer) -> None:
    """Else a status that is asked for in between would say "lost"."""
    PYTORCH.cancel(started())
    last_patch = max(
        k for k, (method, path) in enumerate(server.requests) if method == "PATCH" and "configmaps" in path
    )
    first_delete = min(k for k, (method, _) in enumerate(server.requests) if method == "DELETE")
    assert last_patch < first_delete


def test_a_script_of_a_run_starts_another_attempt(server: ApiServer, tmp_path: Path) -> None:
    run = started()
    first = server.store.get("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")["metadata"]["uid"]
    ended = {"conditions": [{"type": "Failed", "status": "True"}]}
    server.store.patch("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo", {"status": ended})
    script = tmp_path / "script"
    script.write_text(PYTORCH.render(spec_of()))
    assert PYTORCH.submit(run, script) == "demo"
    assert server.store.get("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")["metadata"]["uid"] != first


def test_a_pod_that_does_not_run_is_named_with_those_that_do(server: ApiServer) -> None:
    run = started()
    with pytest.raises(UserError, match=r"pod 0 of run 'demo' does not run\n"):
        PYTORCH.enter(run, 0, ["true"])
