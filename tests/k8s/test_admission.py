"""What will keep pods from running is said when the job is submitted, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.k8s import admission
from jobctl.k8s.api import Api
from jobctl.k8s.manifest import pod_of
from jobctl.k8s.refusals import exceeds_for_ever
from jobctl.k8s.resources import JOB, PYTORCHJOB, TRAINJOB
from jobctl.k8s.target import PYTORCH
from tests.k8s.admission import check_pod
from tests.k8s.conftest import MakeCluster, apply, made, spec_of
from tests.k8s.refusal import Refusal
from tests.k8s.schemas import problems
from tests.k8s.server import ApiServer
from tests.k8s.test_verbs import SMOKE, jobctl_says, until


def gpu_spec(**named: object) -> Any:
    return spec_of(hardware="h100", nodes=2, named={"gpus_per_node": 8, "processes_per_node": 0, **named})


@pytest.mark.parametrize("kind", [PYTORCHJOB, TRAINJOB, JOB], ids=lambda kind: kind.name)
def test_the_pod_that_is_tried_is_a_valid_one(kind: Any) -> None:
    assert problems(pod_of(spec_of(nodes=2), kind)) == []


def test_rdma_in_a_namespace_that_forbids_to_pin_memory(server: ApiServer) -> None:
    server.store.security = "baseline"
    with pytest.raises(UserError, match="pod security level baseline forbids it") as error:
        apply(PYTORCH, gpu_spec(**{"kubernetes.rdma_resource": "rdma/ib"}))
    assert "pod-security.kubernetes.io/enforce=privileged" in error.value.hint
    assert made(server) == []
    server.store.security = "privileged"
    assert apply(PYTORCH, gpu_spec(**{"kubernetes.rdma_resource": "rdma/ib"}))


def test_the_operators_own_init_container_is_tried_as_well(server: ApiServer) -> None:
    server.store.security = "restricted"
    assert apply(PYTORCH, spec_of("alone"))
    with pytest.raises(UserError, match="init-pytorch") as error:
        apply(PYTORCH, spec_of("two", nodes=2))
    assert "--target k8s-trainjob" in error.value.hint


def test_a_quota_on_limits_is_met(server: ApiServer) -> None:
    server.store.pod_quota = {"limits.memory": "8Ti", "limits.cpu": "4000"}
    assert apply(PYTORCH, spec_of())


def test_a_quota_that_can_never_be_met_is_refused(server: ApiServer) -> None:
    server.store.pod_quota = {"limits.memory": "1Mi"}
    with pytest.raises(UserError, match="quota compute is exhausted"):
        apply(PYTORCH, spec_of())
    assert made(server) == []


def test_a_quota_that_others_use_up_is_a_note(server: ApiServer, capfd: pytest.CaptureFixture[str]) -> None:
    pod = pod_of(spec_of("other"), PYTORCHJOB)
    memory = pod["spec"]["containers"][0]["resources"]["limits"]["memory"]
    server.store.create("v1", "pods", "jobctl", pod)
    server.store.pod_quota = {"limits.memory": memory}
    code, _, err = jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    assert (code, "the pods will wait" in err) == (0, True)


@pytest.mark.parametrize(
    ("requested", "limit", "for_ever"),
    [("cpu=8", "cpu=4", True), ("cpu=4", "cpu=4", False), ("memory=2Gi", "memory=1024Mi", True)],
)
def test_for_ever_is_what_no_other_jobs_end_can_change(requested: str, limit: str, for_ever: bool) -> None:
    words = f"exceeded quota: q, requested: {requested}, used: cpu=1, limited: {limit}"
    assert exceeds_for_ever(words) == for_ever


def test_a_claim_that_is_not_there(server: ApiServer) -> None:
    with pytest.raises(UserError, match="namespace jobctl has no PersistentVolumeClaim elsewhere"):
        apply(PYTORCH, spec_of(named={"kubernetes.pvc": "elsewhere"}))
    assert made(server) == []


def test_a_claim_of_one_node_for_several(server: ApiServer) -> None:
    claim = server.store.objects["v1", "persistentvolumeclaims", "jobctl", "jobctl-workspace"]
    claim["spec"]["accessModes"] = ["ReadWriteOnce"]
    assert apply(PYTORCH, spec_of("alone"))
    with pytest.raises(UserError, match="only one node can mount it"):
        apply(PYTORCH, spec_of("two", nodes=2))


def test_a_secret_that_is_not_there_where_the_user_may_look(server: ApiServer) -> None:
    server.rights |= {("", "secrets", "get")}
    with pytest.raises(UserError, match="namespace jobctl has no Secret lost"):
        apply(PYTORCH, spec_of(named={"kubernetes.secret": "lost"}))


def test_who_may_not_read_secrets_can_submit(server: ApiServer) -> None:
    assert apply(PYTORCH, spec_of(named={"kubernetes.secret": "lost"}))


@pytest.mark.parametrize(
    ("image", "is_doubtful"),
    [
        ("jobctl:0.1", True),
        ("team/jobctl:0.1", True),
        ("registry.example.org/jobctl:0.1", False),
        ("registry:5000/jobctl", False),
        ("localhost/jobctl", False),
    ],
)
def test_an_image_without_a_registry_is_doubted(image: str, is_doubtful: bool) -> None:
    assert bool(admission.image_warnings(image)) == is_doubtful


def test_who_may_not_make_pods_can_submit(server: ApiServer) -> None:
    server.rights -= {("", "pods", "create")}
    said: list[str] = []
    admission.check(Api(), spec_of(), pod_of(spec_of(), PYTORCHJOB), said.append)
    assert len(said) == 1


def lose_patience_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a wait look again twice a second, and end half a second after it has seen that the job is blocked."""
    monkeypatch.setattr("jobctl.jobs.cli.follow.BLOCKED_SECONDS", 0.5)
    monkeypatch.setattr("jobctl.jobs.cli.follow.LONGEST_WATCH", 0.5)


def test_wait_ends_with_the_reason_when_pods_are_refused_later(
    server: ApiServer,
    cluster: MakeCluster,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lose_patience_soon(monkeypatch)
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    server.store.security = "restricted"
    server.store.pod_quota = {"requests.example.com/thing": "1"}
    cluster("exit 0")
    code, _, err = jobctl_says(capfd, "wait", "demo", "--timeout", "60")
    assert (code, "does not start: FailedCreatePod" in err) == (1, True), err


def test_wait_ends_with_the_worker_that_a_restricted_namespace_refuses(
    server: ApiServer,
    cluster: MakeCluster,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The level was raised after the submission: the first pod is there, and waits for the other one."""
    lose_patience_soon(monkeypatch)
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo", "--nodes", "2")
    server.store.security = "restricted"
    cluster("exit 0")
    code, _, err = jobctl_says(capfd, "wait", "demo", "--timeout", "30")
    assert (code, "does not start: FailedCreatePod" in err, "init-pytorch" in err) == (1, True, True), err


def test_wait_names_a_secret_that_the_user_may_not_look_up(
    server: ApiServer,
    cluster: MakeCluster,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lose_patience_soon(monkeypatch)
    cluster("exit 0")
    code, _, err = jobctl_says(capfd, "submit", *SMOKE, "--run", "demo", "--set", "kubernetes.secret=gone")
    assert code == 0, err
    code, _, err = jobctl_says(capfd, "wait", "demo", "--timeout", "30")
    assert (code, "does not start: FailedMount" in err, 'secret "gone" not found' in err) == (
        1,
        True,
        True,
    ), err


def test_status_names_a_claim_that_was_deleted_after_the_submission(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    server.store.delete("v1", "persistentvolumeclaims", "jobctl", "jobctl-workspace")
    cluster("exit 0")
    until(
        lambda: (
            'persistentvolumeclaim "jobctl-workspace" not found' in jobctl_says(capfd, "status", "demo")[1]
        )
    )


def test_wait_speaks_of_an_image_that_cannot_be_pulled_and_ends(
    server: ApiServer,
    cluster: MakeCluster,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lose_patience_soon(monkeypatch)
    cluster("exit 0").images_missing = True
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    code, _, err = jobctl_says(capfd, "wait", "demo", "--timeout", "60")
    assert (code, "does not start: demo-master-0: ImagePullBackOff" in err) == (1, True), err
    assert server.store.get("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")


def _pod(**spec: object) -> dict[str, Any]:
    container = {"name": "pytorch", "resources": {"limits": {"memory": "1Gi"}}}
    return {"metadata": {"name": "p"}, "spec": {"containers": [container], **spec}}


def test_the_test_server_refuses_what_only_the_real_validation_sees() -> None:
    mounts = [{"name": "a", "mountPath": "/x"}, {"name": "b", "mountPath": "/x"}]
    twice = _pod(containers=[{"name": "pytorch", "volumeMounts": mounts}])
    nameless = _pod(volumes=[{"name": "a", "persistentVolumeClaim": {"claimName": ""}}])

    for pod, words in ((twice, "mountPath: Invalid value"), (nameless, "claimName: Required value")):
        with pytest.raises(Refusal, match=words):
            check_pod(pod, "privileged", {}, [])


def test_a_pod_that_has_ended_uses_no_quota() -> None:
    ended = _pod() | {"status": {"phase": "Succeeded"}}
    running = _pod() | {"status": {"phase": "Running"}}
    check_pod(_pod(), "privileged", {"limits.memory": "1Gi"}, [ended])

    with pytest.raises(Refusal, match="exceeded quota"):
        check_pod(_pod(), "privileged", {"limits.memory": "1Gi"}, [running])
