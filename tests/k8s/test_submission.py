"""A run's objects are made all or none, and once however often it is asked for."""

from __future__ import annotations

import json

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.k8s import submission
from jobctl.k8s.api import Api
from jobctl.k8s.resources import PYTORCHJOB
from jobctl.k8s.target import PYTORCH
from tests.k8s.conftest import MakeCluster, apply, made, spec_of
from tests.k8s.server import ApiServer, Fault
from tests.k8s.test_verbs import FINISH, SMOKE, jobctl_says


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "retry_after": "0"},
        {"status": 500},
        {"status": 503},
        {"reset": True},
        {"lost": True},
        {"seconds": 0.3},
    ],
    ids=str,
)
def test_a_submission_comes_through_at_whichever_request(server: ApiServer, fault: dict[str, object]) -> None:
    """Each request fails once; the objects are there once, and whole."""
    seen: set[tuple[str, str]] = set()

    def first_time(method: str, path: str) -> bool:
        new = (method, path) not in seen
        seen.add((method, path))
        return new

    server.faults = [Fault(first_time, times=100, **fault)]  # type: ignore[arg-type]
    assert apply(PYTORCH, spec_of())
    assert made(server) == ["configmaps", "pytorchjobs"]
    server.faults = []
    assert not apply(PYTORCH, spec_of())


def test_nothing_stays_behind_when_the_job_is_refused(server: ApiServer) -> None:
    server.store.quota["pytorchjobs"] = (
        'pytorchjobs.kubeflow.org "demo" is forbidden: exceeded quota: gpus, requested: '
        "requests.nvidia.com/gpu=8, used: requests.nvidia.com/gpu=8, limited: requests.nvidia.com/gpu=8"
    )
    with pytest.raises(UserError, match="quota gpus is exhausted"):
        apply(PYTORCH, spec_of())
    assert made(server) == []


def test_a_submission_that_broke_off_in_the_middle_is_completed(server: ApiServer) -> None:
    apply(PYTORCH, spec_of())
    server.store.delete("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")
    server.store.patch(
        "v1", "configmaps", "jobctl", "demo", {"metadata": {"annotations": {"jobctl/job": None}}}
    )
    assert apply(PYTORCH, spec_of())
    assert server.store.get("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")


def test_a_second_submission_says_so_and_changes_nothing(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    versions = {key: thing["metadata"]["resourceVersion"] for key, thing in server.store.objects.items()}
    code, out, _ = jobctl_says(capfd, "submit", *SMOKE, "--run", "demo", "--json")
    assert (code, json.loads(out)["new"]) == (0, False)
    assert versions == {
        key: thing["metadata"]["resourceVersion"] for key, thing in server.store.objects.items()
    }
    code, _, err = jobctl_says(capfd, "submit", *SMOKE, "--run", "demo", "--set", "max_iters=7")
    assert code == 2
    assert "run 'demo' exists in namespace jobctl" in err


def test_trainjob_is_taken_where_only_that_is_served(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    del server.store.served["kubeflow.org/v1", "pytorchjobs"]
    cluster(FINISH)
    code, out, _ = jobctl_says(capfd, "submit", *SMOKE, "--run", "demo", "--nodes", "2")
    assert (code, "on k8s-trainjob" in out) == (0, True)
    assert jobctl_says(capfd, "wait", "demo")[0] == 0
    del server.store.served["trainer.kubeflow.org/v1alpha1", "trainjobs"]
    code, _, err = jobctl_says(capfd, "submit", *SMOKE, "--run", "other")
    assert (code, "the cluster serves no PyTorchJob" in err) == (1, True)


def test_export_again_with_other_words_takes_the_place_of_the_ended_one(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    """The server lets nobody change a Job's pods."""
    cluster('echo "$*" >>"$JOBCTL_ROOT/exports"; exit 0')
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    for words in ([], ["--", "--step=5"]):
        code, out, err = jobctl_says(capfd, "submit", "export", "--target", "k8s", "--run", "demo", *words)
        assert (code, "job demo--export" in out) == (0, True), err
        assert jobctl_says(capfd, "wait", "demo:export")[0] == 0
    assert "--step=5" in (server.volume / "exports").read_text().splitlines()[-1]


def manifest_of(run: str, **more: object) -> str:
    return PYTORCH.render(spec_of(run, **more))


def record_in(text: str) -> str:
    return str(submission.objects_in(text)[0]["data"]["run.json"])


def set_status(server: ApiServer, **status: object) -> None:
    server.store.patch("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo", {"status": status})


SUCCEEDED = [{"type": "Succeeded", "status": "True"}]


def test_a_job_that_is_at_work_is_not_made_again(server: ApiServer) -> None:
    apply(PYTORCH, spec_of("demo"))
    before = server.store.get("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")
    with pytest.raises(UserError, match="job demo has not ended"):
        submission.restart(Api(), manifest_of("demo"), record_in(manifest_of("demo")))

    assert server.store.get("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo") == before


def test_an_ended_job_is_made_again_with_the_record_that_is_given(server: ApiServer) -> None:
    apply(PYTORCH, spec_of("demo"))
    first = server.store.get("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")
    set_status(server, conditions=SUCCEEDED)
    assert submission.restart(Api(), manifest_of("demo"), '{"edited": 1}\n') == "demo"
    second = server.store.get("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    record = server.store.get("v1", "configmaps", "jobctl", "demo")
    assert record["data"]["run.json"] == '{"edited": 1}\n'
    assert record["metadata"]["annotations"]["jobctl/job"] == second["metadata"]["uid"]


def test_where_the_new_job_is_refused_the_old_one_stays(server: ApiServer) -> None:
    """Its logs stay with it."""
    apply(PYTORCH, spec_of("demo"))
    set_status(server, conditions=SUCCEEDED)
    before = server.store.get("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")
    server.store.quota["pytorchjobs"] = (
        'pytorchjobs.kubeflow.org "demo-try" is forbidden: exceeded quota: gpus'
    )
    with pytest.raises(UserError):
        submission.restart(Api(), manifest_of("demo"), record_in(manifest_of("demo")))

    assert server.store.get("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo") == before


def test_a_job_that_somebody_else_made_under_the_name_is_left_alone(server: ApiServer) -> None:
    theirs = submission.objects_in(manifest_of("demo"))[1]
    theirs["metadata"]["annotations"] = {}
    theirs["metadata"]["labels"] = {}
    server.store.create("kubeflow.org/v1", "pytorchjobs", "jobctl", theirs)
    with pytest.raises(UserError, match="PyTorchJob demo in namespace jobctl was made for somebody else"):
        apply(PYTORCH, spec_of("demo"))

    assert made(server) == ["pytorchjobs"]


def test_a_run_whose_job_is_gone_is_gone_on_with_and_not_made_anew(server: ApiServer) -> None:
    apply(PYTORCH, spec_of("demo"))
    server.store.delete("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")
    with pytest.raises(UserError, match="run 'demo' exists in namespace jobctl") as error:
        apply(PYTORCH, spec_of("demo"))

    assert "jobctl resume" in str(error.value.hint)
    assert made(server) == ["configmaps"]


def test_code_is_copied_with_the_name_claimed_and_before_the_job(server: ApiServer) -> None:
    at_work: list[list[str]] = []
    submission.submit(
        Api(),
        PYTORCHJOB,
        manifest_of("demo"),
        replace_ended=False,
        prepare=lambda: at_work.append(made(server)),
    )
    assert at_work == [["configmaps"]]
    assert made(server) == ["configmaps", "pytorchjobs"]


def test_where_the_code_does_not_arrive_the_name_is_free_again(server: ApiServer) -> None:
    def breaks() -> None:
        raise UserError("the volume is full")

    with pytest.raises(UserError, match="the volume is full"):
        submission.submit(Api(), PYTORCHJOB, manifest_of("demo"), replace_ended=False, prepare=breaks)

    assert made(server) == []
    assert apply(PYTORCH, spec_of("demo"))
