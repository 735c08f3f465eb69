"""A container that is started again in its pod, as JobSet's pods ask for it: the same pod, another attempt."""

from __future__ import annotations

import json
import os
import signal

import pytest

from jobctl.k8s.target import TRAIN
from tests.k8s.conftest import MakeCluster, apply, spec_of
from tests.k8s.server import ApiServer
from tests.k8s.test_verbs import SMOKE, UNTIL_STOP, jobctl_says, record_of, until

STOPS_ONCE = 'echo "$attempt $node" >>"$run_dir/said"; [ "$attempt" = 2 ] && exit 0; exit 200'
TWO_PODS = [*SMOKE, "--target", "k8s-trainjob", "--run", "demo", "--nodes", "2"]


def pods_made(server: ApiServer) -> int:
    """How many pods there have been."""
    changes = server.store.changes("v1", "pods", "jobctl", "", since=0, seconds=0.0)
    return sum(change == "ADDED" for _, change, _ in changes)


@pytest.mark.parametrize(("in_place", "pods"), [(True, 2), (False, 4)], ids=["1.35", "older"])
def test_all_pods_go_on_with_the_next_attempt_and_are_not_made_anew_where_the_kubelet_can(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], in_place: bool, pods: int
) -> None:
    cluster(STOPS_ONCE).restarts_in_place = in_place
    jobctl_says(capfd, "submit", *TWO_PODS)
    assert jobctl_says(capfd, "wait", "demo")[0] == 0
    assert sorted((server.volume / "runs/demo/said").read_text().splitlines()) == ["1 0", "1 1", "2 0", "2 1"]
    assert pods_made(server) == pods
    assert "demo: finished, attempt 2" in jobctl_says(capfd, "status", "demo")[1]


def test_a_container_that_was_killed_gets_a_new_pod(server: ApiServer, cluster: MakeCluster) -> None:
    """It may have left memory behind."""
    running = cluster('[ "$attempt" = 2 ] && exit 0; touch "$run_dir/up"; sleep 60')
    apply(TRAIN, spec_of(target="k8s-trainjob"))
    until((server.volume / "runs/demo/up").exists)
    os.killpg(running.process("demo-node-0-0").pid, signal.SIGKILL)
    until(lambda: record_of(server, "demo", 2).get("reason") == "finished")
    assert pods_made(server) == 2


def test_a_failure_that_only_a_person_can_mend_starts_nothing(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster("exit 2")
    jobctl_says(capfd, "submit", *TWO_PODS)
    assert jobctl_says(capfd, "wait", "demo")[0] == 2
    assert pods_made(server) == 2


def test_status_and_logs_go_on_with_the_container(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(f'echo "this is $attempt"; [ "$attempt" = 1 ] && exit 200; {UNTIL_STOP}')
    jobctl_says(capfd, "submit", *SMOKE, "--target", "k8s-trainjob", "--run", "demo")

    def status() -> dict[str, object]:
        return dict(json.loads(jobctl_says(capfd, "status", "demo", "--json")[1]))

    until(lambda: (status()["state"], status()["attempt"]) == ("running", 2))
    assert "this is 2" in jobctl_says(capfd, "logs", "demo")[1]
    jobctl_says(capfd, "cancel", "demo", "--graceful")
    jobctl_says(capfd, "wait", "demo")
    assert pods_made(server) == 1


def test_a_log_that_is_followed_goes_on_in_the_same_pod(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(
        'echo "this is $attempt"; until [ -e "$JOBCTL_ROOT/go" ]; do sleep 0.05; done; '
        '[ "$attempt" = 3 ] && exit 0; exit 200'
    )
    jobctl_says(capfd, "submit", *SMOKE, "--target", "k8s-trainjob", "--run", "demo")
    until(lambda: "this is 1" in jobctl_says(capfd, "logs", "demo")[1])
    (server.volume / "go").touch()
    out = jobctl_says(capfd, "logs", "demo", "-f")[1]
    assert "this is 3" in out
    assert pods_made(server) == 1
