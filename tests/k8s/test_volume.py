"""A pod that mounts the volume and does not run: who waits for it is told why, and not left there."""

from __future__ import annotations

import pytest

import jobctl.k8s.volume
from tests.k8s.conftest import MakeCluster
from tests.k8s.server import ApiServer
from tests.k8s.test_verbs import FINISH, SMOKE, jobctl_says


@pytest.mark.parametrize(
    "words", [["collect", "demo", "-o", "out"], ["delete", "demo", "-y"], ["forward", "demo"]]
)
def test_a_pod_whose_image_cannot_be_pulled_ends_the_wait(
    server: ApiServer,
    cluster: MakeCluster,
    words: list[str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobctl.k8s.volume, "HOPELESS_SECONDS", 0.2)
    running = cluster(FINISH)
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    assert jobctl_says(capfd, "wait", "demo")[0] == 0

    running.images_missing = True
    port = ["--port", "0"] if words[0] == "forward" else []
    code, _, err = jobctl_says(capfd, *words, *port)
    assert (code, "does not run: ImagePullBackOff: Back-off pulling image" in err) == (1, True), err
    assert (server.volume / "runs/demo").is_dir()
