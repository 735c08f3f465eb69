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
