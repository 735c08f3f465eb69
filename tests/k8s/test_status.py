"""What a job's conditions, its pods and its record's marks mean, without a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.runs.records import RunRecord
from jobctl.jobs.runs.store import Run, Status
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.k8s.pods import read_pod, warnings_of
from jobctl.k8s.queueing import Waiting
from jobctl.k8s.status import ending, status_of
from tests.k8s.schemas import DATA

CHOICES = Choices(model="qwen3_smoke", target="k8s", named={"nodes": 2})
RECORD = RunRecord(spec=resolve(CHOICES, version="0").spec)


def job(*conditions: dict[str, str], workers: int = 1, **spec: Any) -> dict[str, Any]:
    held = [{"status": "True", "reason": "", "message": "", **condition} for condition in conditions]
    roles = {"Master": {"replicas": 1}, "Worker": {"replicas": workers}}
    status = {"status": {"conditions": held}} if held else {}
    return {"metadata": {"name": "demo"}, "spec": {"pytorchReplicaSpecs": roles, **spec}, **status}


def pod(index: int = 0, phase: str = "Running", **state: dict[str, Any]) -> Any:
    role = "worker" if index else "master"
    labels = {
        "training.kubeflow.org/replica-type": role,
        "training.kubeflow.org/replica-index": str(max(0, index - 1)),
    }
    statuses = [{"name": "pytorch", "state": state}] if state else []
    return read_pod(
        {"metadata": {"name": f"demo-{role}-0", "uid": str(index), "labels": labels},
         "spec": {"containers": [{"name": "pytorch"}], "nodeName": f"n{index}"},
         "status": {"phase": phase, "containerStatuses": statuses}}
    )  # fmt: skip


def status(
    thing: dict[str, Any] | None, *pods: Any, warnings: list[str] | None = None, **marks: str
) -> Status:
    run = Run("demo", Path("/workspace/runs/demo"), RECORD, ())
    return status_of(
        run, thing, pods, warnings or [], {f"jobctl/{key}": value for key, value in marks.items()}
    )


def test_a_job_that_was_just_made_has_no_conditions() -> None:
    assert status(job()).state == "submitted"


def test_the_recorded_job_of_a_real_operator_has_finished() -> None:
    body = json.loads((DATA / "get-succeeded.json").read_text())["body"]
    pods = [read_pod(thing) for thing in json.loads((DATA / "pods.json").read_text())["body"]["items"]]
    found = status(body, *pods)
    assert (found.state, found.exit_code, found.job_id) == ("finished", 0, "good")
    assert [each.index for each in pods] == [0, 1, 2]


def test_running_pods_are_counted() -> None:
    found = status(
        job({"type": "Running"}, workers=2), pod(0, running={}), pod(1, running={}), pod(2, "Pending")
    )
    assert (found.state, found.detail) == ("running", "pods: 2 running, 1 pending of 3")
    assert status(job({"type": "Running"}, workers=0), pod(0, running={})).detail == ""


@pytest.mark.parametrize(
    "condition",
    [
        {"reason": "PyTorchJobFailed", "message": "Job x was active longer than specified deadline"},
        {"reason": "DeadlineExceeded", "message": "TrainJob exceeded its active deadline"},
    ],
    ids=["PyTorchJob", "TrainJob"],
)  # fmt: skip
def test_the_time_limit_stops_a_run_and_does_not_fail_it(condition: dict[str, str]) -> None:
    found = status(job({"type": "Failed", **condition}))
    assert (found.state, found.exit_code) == ("stopped", 200)
    assert "its time limit is over" in found.detail
    assert "jobctl resume demo" in found.detail


def test_an_evicted_pod_says_so() -> None:
    evicted = pod(1, "Failed", terminated={"exitCode": 137, "reason": "OOMKilled", "message": "last line"})
    found = status(job({"type": "Restarting"}), pod(0, running={}), evicted)
    assert found.state == "running"
    assert "demo-worker-0: exit code 137\n    OOMKilled: last line" in found.detail


def test_an_image_that_cannot_be_pulled_is_the_reason() -> None:
    waiting = pod(0, "Pending", waiting={"reason": "ImagePullBackOff", "message": "no such image"})
    assert "demo-master-0: ImagePullBackOff: no such image" in status(job(), waiting).detail


def test_what_quota_refuses_to_an_operator_is_in_its_events() -> None:
    events = [
        {
            "type": "Warning",
            "reason": "FailedCreatePod",
            "message": "exceeded quota: gpus",
            "lastTimestamp": str(n),
        }
        for n in range(3)
    ]
    found = status(job({"type": "Created"}), warnings=warnings_of(events))
    assert (found.state, found.detail) == ("pending", "event: FailedCreatePod: exceeded quota: gpus")


def test_hundreds_of_pods_are_not_hundreds_of_lines() -> None:
    pods = [pod(n, "Pending", waiting={"reason": "ImagePullBackOff"}) for n in range(300)]
    lines = status(job(workers=299), *pods).detail.splitlines()
    assert lines[0] == "pods: 300 pending of 300"
    assert len(lines) < 12
    assert lines[-1].endswith("more")


def test_a_suspended_job_waits() -> None:
    thing = job({"type": "Suspended"}, runPolicy={"suspend": True})
    thing["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "research"}
    found = status(thing)
    assert (found.state, found.detail) == ("pending", "suspended: waits to be admitted in queue research")


def test_a_job_that_is_gone_ended_as_remembered() -> None:
    assert status(None).state == "lost"
    assert status(None, cancelled="now").state == "cancelled"
    before = status(job({"type": "Succeeded"}))
    assert status(None, ended=ending(before)).state == "finished"


def message(code: int, reason: str, attempt: int = 3) -> str:
    return (
        json.dumps({"attempt": attempt, "exit_code": code, "reason": reason, "bad_nodes": ""}) + "\nlast line"
    )


def test_what_the_pod_says_of_its_end_is_the_truth() -> None:
    """The pod leaves with 1, so that nobody starts it again."""
    ended_pod = pod(0, "Failed", terminated={"exitCode": 1, "message": message(200, "time limit")})
    known = status(job({"type": "Failed", "reason": "X", "message": "y"}), ended_pod)
    assert (known.state, known.exit_code, known.attempt) == ("stopped", 200, 3)
    assert known.detail.splitlines()[0] == "time limit"
    assert "last line" in known.detail
    assert "attempt" not in known.detail


def test_a_mark_of_a_job_that_was_replaced_says_nothing_of_its_successor() -> None:
    thing = job({"type": "Succeeded"})
    thing["metadata"]["uid"] = "new"
    assert status(thing, cancelled="2026-11-25T10:00:00Z old").state == "finished"
    assert status(thing, cancelled="2026-11-25T10:00:00Z new").state == "cancelled"


def test_a_job_that_reached_its_end_before_it_could_stop_has_finished() -> None:
    thing = job({"type": "Succeeded"})
    thing["metadata"]["uid"] = "new"
    done = pod(0, "Succeeded", terminated={"exitCode": 0, "message": message(0, "finished")})
    assert status(thing, done, cancelled="2026-11-25T10:00:00Z new").state == "finished"


def test_a_remembered_end_of_an_earlier_job_is_not_the_newest_ones() -> None:
    before = ending(status(job({"type": "Succeeded"})), "old")
    assert status(None, ended=before, job="old").state == "finished"
    assert status(None, ended=before, job="new").state == "lost"


def test_a_pod_that_checkpoints_after_its_job_was_deleted_still_runs() -> None:
    known = status(None, pod(0, running={}), cancelled="now")
    assert known.state == "running"
    assert "asked to stop" in known.detail


@pytest.mark.parametrize(
    ("reason", "is_blocked"),
    [("ImagePullBackOff", True), ("CreateContainerConfigError", True), ("ContainerCreating", False)],
)
def test_what_will_not_pass_by_itself_is_told_apart(reason: str, is_blocked: bool) -> None:
    waiting = pod(0, "Pending", waiting={"reason": reason, "message": "words"})
    known = status(job(), waiting)
    assert bool(known.blocked) == is_blocked
    assert "words" in known.detail


def test_why_kueue_does_not_admit_is_shown() -> None:
    thing = job({"type": "Suspended"}, runPolicy={"suspend": True})
    thing["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "research"}
    run = Run("demo", Path("/workspace/runs/demo"), RECORD, ())
    known = status_of(run, thing, [], [], {}, queue=Waiting("insufficient quota for nvidia.com/gpu"))
    assert known.detail.endswith("in queue research: insufficient quota for nvidia.com/gpu")


def test_an_operators_init_container_whose_image_is_missing_is_named() -> None:
    thing = {
        "metadata": {"name": "w", "uid": "u", "labels": {}},
        "spec": {"containers": [{"name": "pytorch"}]},
        "status": {
            "phase": "Pending",
            "containerStatuses": [{"name": "pytorch", "state": {"waiting": {"reason": "PodInitializing"}}}],
            "initContainerStatuses": [
                {
                    "name": "init-pytorch",
                    "state": {"waiting": {"reason": "ErrImagePull", "message": "alpine:3.10"}},
                }
            ],
        },
    }
    known = read_pod(thing)
    assert known.waits_for_ever
    assert known.waiting == "ErrImagePull: init container init-pytorch: alpine:3.10"
