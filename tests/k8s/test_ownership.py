"""Whose a run is: recorded from the token, shown, and said before another's run is touched."""

from __future__ import annotations

import json

import pytest

from jobctl.k8s.target import PYTORCH
from tests.k8s.conftest import MakeCluster
from tests.k8s.server import ApiServer
from tests.k8s.test_verbs import SMOKE, UNTIL_STOP, jobctl_says, until


def now_as(server: ApiServer, user: str) -> None:
    """The commands that follow are another user's."""
    server.user = user
    PYTORCH.clusters.forget()


def test_the_owner_is_recorded_and_listed(server: ApiServer, capfd: pytest.CaptureFixture[str]) -> None:
    jobctl_says(capfd, "submit", *SMOKE, "--run", "hers")
    now_as(server, "bob")
    jobctl_says(capfd, "submit", *SMOKE, "--run", "his")
    owners = {run["run"]: run["owner"] for run in json.loads(jobctl_says(capfd, "list", "--json")[1])}
    assert owners == {"hers": "ann", "his": "bob"}
    listed = jobctl_says(capfd, "list")[1].splitlines()
    assert "OWNER" in listed[0]
    assert [("ann" in line, "bob" in line) for line in listed[1:]] == [(True, False), (False, True)]


def test_another_users_run_is_not_resumed_unless_said_so(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster("exit 3")
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    now_as(server, "bob")
    code, _, err = jobctl_says(capfd, "resume", "demo")
    assert (code, "run 'demo' belongs to ann" in err) == (1, True)
    assert jobctl_says(capfd, "resume", "demo", "--trust-owner", "ann")[0] == 0


def test_cancelling_another_users_run_says_whose_it_is(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(UNTIL_STOP)
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    until(lambda: "demo: running" in jobctl_says(capfd, "status", "demo")[1])
    assert (
        "belongs to ann" not in jobctl_says(capfd, "submit", "export", "--target", "k8s", "--run", "demo")[2]
    )
    now_as(server, "bob")
    assert (
        "run 'demo' belongs to ann"
        in jobctl_says(capfd, "submit", "export", "--target", "k8s", "--run", "demo")[2]
    )
    code, _, err = jobctl_says(capfd, "cancel", "demo")
    assert (code, "run 'demo' belongs to ann" in err) == (0, True)


def test_an_evaluation_of_another_users_run_says_into_whose_it_writes(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster("exit 0")
    words = [word for word in SMOKE if word not in ("--stage", "smoke")]
    jobctl_says(capfd, "submit", *words, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    now_as(server, "bob")
    code, _, err = jobctl_says(capfd, "submit", "eval", *words, "--run", "demo")
    assert (code, "run 'demo' belongs to ann; eval writes into its directory" in err) == (0, True), err


def test_a_server_that_does_not_say_who_we_are_hides_no_run(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster("exit 3")
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    now_as(server, "")
    assert jobctl_says(capfd, "resume", "demo")[0] == 0
