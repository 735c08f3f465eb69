"""A pod that mounts the volume and does not run: who waits for it is told why, and not left there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

import jobctl.k8s.volume
from jobctl.jobs.catalog.schema.site import Site
from jobctl.jobs.core.errors import UserError
from jobctl.k8s.api import Api
from jobctl.k8s.refusals import Refused
from jobctl.k8s.resources import Kind, Object
from jobctl.k8s.volume import HOPELESS_SECONDS, START_SECONDS, VolumePod, running
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


class Cluster:
    """Answers each look at the pod with the next state, the last one again and again. Its clock is ``now``."""

    def __init__(self, *states: Object | None) -> None:
        self.states = list(states)
        self.created: list[Object] = []
        self.deleted: list[tuple[str, str, int | None]] = []
        self.now = 0.0
        self.refusal: UserError | None = None
        self.delete_fails: UserError | None = None

    def create(self, kind: Kind, thing: Object) -> None:
        self.created.append(thing)
        if self.refusal:
            raise self.refusal

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return state and {"metadata": {"name": name, "uid": "u"}, "spec": SPEC, "status": state}

    def delete(self, kind: Kind, namespace: str, name: str, grace_seconds: int | None = None) -> None:
        self.deleted.append((namespace, name, grace_seconds))
        if self.delete_fails:
            raise self.delete_fails

    def sleep(self, seconds: float) -> None:
        # A test would take long if every half second of thirty minutes were asked for.
        self.now += 100 * seconds


SPEC = {"containers": [{"name": "reader"}]}
PENDING: Object = {"phase": "Pending"}


def waiting(reason: str, message: str = "") -> Object:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"name": "reader", "state": state}]}


def ended(code: int, message: str) -> Object:
    state = {"terminated": {"exitCode": code, "reason": "Error", "message": message}}
    return {"phase": "Failed", "containerStatuses": [{"name": "reader", "state": state}]}


RUNNING: Object = {"phase": "Running", "containerStatuses": [{"name": "reader", "state": {"running": {}}}]}
MakeClock = Callable[[Cluster], Cluster]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> MakeClock:
    """Give the module the clock of a cluster."""

    def give(made: Cluster) -> Cluster:
        monkeypatch.setattr("jobctl.k8s.volume.time.sleep", made.sleep)
        monkeypatch.setattr("jobctl.k8s.volume.time.monotonic", lambda: made.now)
        return made

    return give


def reader(made: Cluster, told: list[str], **facts: Any) -> Any:
    wanted = VolumePod(site=Site(), run="demo", image="registry/jobctl:1", **facts)
    return running(cast(Api, made), wanted, told.append)


def test_each_state_is_told_once_until_the_pod_runs_and_the_pod_is_gone_at_the_end(clock: MakeClock) -> None:
    pulling = waiting("ErrImagePull", "no such host")
    made = clock(Cluster(PENDING, PENDING, pulling, pulling, PENDING, RUNNING))
    told: list[str] = []
    with reader(made, told) as name:
        assert made.deleted == []

    assert told == [
        f"waiting for pod {name}: Pending",
        f"waiting for pod {name}: ErrImagePull: no such host",
        f"waiting for pod {name}: Pending",
    ]
    assert made.deleted == [(Site().kubernetes.namespace, name, 0)]


def test_two_commands_for_one_run_have_pods_of_different_names(clock: MakeClock) -> None:
    made = clock(Cluster(RUNNING))
    with reader(made, []) as first, reader(made, []) as second:
        assert first != second
    assert [name for _, name, _ in made.deleted] == [second, first]


def test_the_volume_is_mounted_for_writing_only_for_who_writes(clock: MakeClock) -> None:
    made = clock(
        Cluster({"phase": "Running", "containerStatuses": [{"name": "writer", "state": {"running": {}}}]})
    )
    monkey = {"containers": [{"name": "writer"}]}
    made.get = lambda kind, namespace, name: {  # type: ignore[method-assign]
        "metadata": {"name": name, "uid": "u"}, "spec": monkey, "status": made.states[0],
    }  # fmt: skip
    with reader(made, [], writes=True) as writer, reader(made, []) as other:
        assert ("-writer-" in writer, "-reader-" in other) == (True, True)

    read_only = [bool(mount.get("readOnly")) for pod in made.created for mount in mounts_of(pod)]
    assert read_only == [False, True]


def mounts_of(pod: Object) -> list[Object]:
    """Return the mounts of the volume that holds runs and data sets."""
    claims = {volume["name"] for volume in pod["spec"]["volumes"] if "persistentVolumeClaim" in volume}
    (container,) = pod["spec"]["containers"]
    return [mount for mount in container["volumeMounts"] if mount["name"] in claims]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (None, "was deleted before it ran"),
        (ended(1, "sh: not found"), "does not run: sh: not found"),
    ],
)
def test_a_pod_that_can_never_run_ends_the_wait_at_once_and_is_removed(
    clock: MakeClock, state: Object | None, said: str
) -> None:
    made = clock(Cluster(PENDING, state))
    with pytest.raises(UserError, match=said) as refused, reader(made, []):
        raise AssertionError("it does not run")
    assert refused.value.code == 1
    assert len(made.deleted) == 1
    assert made.now == 100 * jobctl.k8s.volume.POLL_SECONDS, "it was asked twice"


def test_an_image_that_is_missing_is_waited_for_a_while_and_a_busy_cluster_longer(clock: MakeClock) -> None:
    for state, seconds in ((waiting("ImagePullBackOff"), HOPELESS_SECONDS), (PENDING, START_SECONDS)):
        made = clock(Cluster(state))
        with pytest.raises(UserError, match="does not run"), reader(made, []):
            raise AssertionError("it does not run")
        assert seconds <= made.now <= seconds + 200


def test_a_registry_that_is_back_in_time_begins_the_patience_anew(clock: MakeClock) -> None:
    away = [waiting("ImagePullBackOff")] * 11
    made = clock(Cluster(*away, PENDING, *away, RUNNING))
    with reader(made, []):
        assert made.now > HOPELESS_SECONDS


def test_a_block_that_fails_leaves_no_pod(clock: MakeClock) -> None:
    made = clock(Cluster(RUNNING))
    with pytest.raises(KeyboardInterrupt), reader(made, []):
        raise KeyboardInterrupt
    assert len(made.deleted) == 1


def test_a_pod_that_cannot_be_removed_is_told_and_does_not_hide_the_result(clock: MakeClock) -> None:
    made = clock(Cluster(RUNNING))
    made.delete_fails = UserError("the API server does not answer")
    told: list[str] = []
    with reader(made, told):
        pass
    assert told == ["the API server does not answer; the pod ends by itself in 6 hours"]


def test_a_pod_whose_answer_was_lost_is_used_and_another_refusal_is_an_error(clock: MakeClock) -> None:
    made = clock(Cluster(RUNNING))
    made.refusal = Refused("pods already exists", status=409)
    with reader(made, []):
        pass
    assert len(made.deleted) == 1

    made.refusal = Refused("no right", status=403)
    with pytest.raises(Refused, match="no right"), reader(made, []):
        raise AssertionError("it was refused")
    assert len(made.deleted) == 1, "there is nothing to remove"
