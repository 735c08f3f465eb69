"""What Kueue does to a job that is at work: it takes it back, and admits it again."""

from __future__ import annotations

import pytest

from tests.k8s.conftest import MakeCluster
from tests.k8s.server import ApiServer
from tests.k8s.test_verbs import SMOKE, UNTIL_STOP, jobctl_says, record_of, until


@pytest.mark.parametrize(
    ("target", "version", "plural", "place"),
    [
        ("k8s", "kubeflow.org/v1", "pytorchjobs", "runPolicy"),
        ("k8s-trainjob", "trainer.kubeflow.org/v1alpha1", "trainjobs", ""),
    ],
)
def test_a_training_that_kueue_takes_back_checkpoints_and_goes_on(
    server: ApiServer,
    cluster: MakeCluster,
    capfd: pytest.CaptureFixture[str],
    target: str,
    version: str,
    plural: str,
    place: str,
) -> None:
    def suspend(wish: bool) -> None:
        change = {"suspend": wish}
        spec = {place: change} if place else change
        server.store.patch(version, plural, "jobctl", "demo", {"spec": spec})

    cluster(f'[ "$attempt" = 2 ] && exit 0; touch "$run_dir/up"; {UNTIL_STOP}')
    jobctl_says(
        capfd, "submit", *SMOKE, "--target", target, "--run", "demo", "--set", "kubernetes.queue=research"
    )
    until(lambda: "waits to be admitted in queue research" in jobctl_says(capfd, "status", "demo")[1])
    suspend(False)
    until((server.volume / "runs/demo/up").exists)
    suspend(True)
    until(lambda: record_of(server, "demo", 1).get("reason") == "preempted")
    assert record_of(server, "demo", 1)["exit_code"] == 200
    until(lambda: "waits to be admitted in queue research" in jobctl_says(capfd, "status", "demo")[1])
    suspend(False)
    assert jobctl_says(capfd, "wait", "demo")[0] == 0
    assert record_of(server, "demo", 2)["reason"] == "finished"
