"""What Kueue writes into a Workload, and what users read of it. The conditions are in the words of Kueue 0.19."""

from __future__ import annotations

from typing import Any

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.k8s.queueing import ADMITTED, read_workload
from jobctl.k8s.resources import LOCAL_QUEUE, LOCAL_QUEUE_V1BETA1
from jobctl.k8s.target import PYTORCH
from tests.k8s.conftest import MakeCluster, apply, made, spec_of
from tests.k8s.schemas import problems
from tests.k8s.server import ApiServer
from tests.k8s.test_verbs import FINISH, SMOKE, jobctl_says, until

USED = (
    "couldn't assign flavors to pod set master: insufficient unused quota for nvidia.com/gpu in flavor "
    "jobctl-nodes, 8 more needed"
)
TOO_MUCH = (
    "couldn't assign flavors to pod set master: insufficient quota for nvidia.com/gpu in flavor jobctl-nodes, "
    "previously considered podsets requests (0) + current podset request (128) > maximum capacity (64)"
)
TOPOLOGY = (
    "couldn't assign flavors to pod set node: topology \"default\" doesn't allow to fit any of 2 pod(s)"
)
PREEMPTED = (
    "Preempted to accommodate a workload (UID: 1, JobUID: 2) due to prioritization in the ClusterQueue; "
    "preemptor path: /research; preemptee path: /research"
)
NO_RESERVATION = ("Admitted", "False", "NoReservation", "The workload has no reservation")
CHECK = {
    "name": "nodes", "state": "Pending", "message": "Waiting for 2 nodes", "lastTransitionTime": "2026-11-29T10:00:00Z"
}  # fmt: skip


def workload(*conditions: tuple[str, str, str, str], active: bool = True, **status: Any) -> dict[str, Any]:
    thing = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": {"name": "pytorchjob-demo-1a2b3"},
        "spec": {"active": active},
        "status": {
            "conditions": [
                {"type": type_, "status": holds, "reason": reason, "message": message,
                 "lastTransitionTime": "2026-11-29T10:00:00Z"}
                for type_, holds, reason, message in conditions
            ],
            **status,
        },
    }  # fmt: skip
    assert problems(thing) == []
    return thing


def unreserved(message: str, reason: str = "Pending") -> tuple[str, str, str, str]:
    return ("QuotaReserved", "False", reason, message)


RESERVED = ("QuotaReserved", "True", "QuotaReserved", "Quota reserved in ClusterQueue research")
EVICTED = ("Evicted", "True", "Preempted", PREEMPTED)


def test_a_workload_that_kueue_has_not_seen_has_nothing_to_say() -> None:
    assert read_workload(workload()) == ADMITTED


def test_an_admitted_workload_has_nothing_to_say() -> None:
    admitted = ("Admitted", "True", "Admitted", "The workload is admitted")
    assert read_workload(workload(RESERVED, admitted)) == ADMITTED


@pytest.mark.parametrize("before", [True, False])
def test_the_condition_with_the_cause_is_shown_wherever_it_stands(before: bool) -> None:
    conditions = [NO_RESERVATION, unreserved(USED)]
    assert read_workload(workload(*conditions[:: 1 if before else -1])).why == USED


@pytest.mark.parametrize(
    ("condition", "for_ever"),
    [
        (unreserved(USED), False),
        (unreserved(USED, "WaitingForQuota"), False),
        (unreserved(TOPOLOGY, "TopologyPlacementFailed"), False),
        (unreserved("ClusterQueue research is inactive", "Inadmissible"), False),
        (unreserved("LocalQueue research is stopped", "Inadmissible"), False),
        (unreserved(TOO_MUCH), True),
        (unreserved(TOO_MUCH, "ExceedsMaxQuota"), True),
        (unreserved(f"{TOO_MUCH}, {USED}"), False),
        (unreserved("LocalQueue research doesn't exist", "Inadmissible"), True),
        (unreserved("ClusterQueue research is terminating or missing", "Inadmissible"), True),
        (unreserved("ClusterQueue research doesn't exist", "Misconfigured"), True),
    ],
)
def test_for_ever_is_what_no_other_jobs_end_can_change(
    condition: tuple[str, str, str, str], for_ever: bool
) -> None:
    assert read_workload(workload(condition)) == (condition[3], for_ever)


def test_a_job_that_was_taken_back_says_for_whom_and_why_it_is_not_back() -> None:
    at_first = workload(EVICTED, unreserved(PREEMPTED), NO_RESERVATION)
    assert read_workload(at_first).why == f"evicted (Preempted): {PREEMPTED}"
    later = workload(EVICTED, unreserved(USED), NO_RESERVATION)
    assert read_workload(later).why == f"evicted (Preempted): {PREEMPTED}; {USED}"


def test_an_eviction_of_the_past_is_not_shown() -> None:
    before = ("Evicted", "False", "QuotaReserved", f"Previously: {PREEMPTED}")
    unready = ("Admitted", "False", "UnsatisfiedAdmissionChecks", "The workload has not all checks ready")
    assert read_workload(workload(before, RESERVED, unready)).why == "The workload has not all checks ready"


def test_checks_that_are_awaited_are_named() -> None:
    unready = ("Admitted", "False", "UnsatisfiedAdmissionChecks", "The workload has not all checks ready")
    ready = {**CHECK, "name": "budget", "state": "Ready", "message": "within budget"}
    why = read_workload(workload(RESERVED, unready, admissionChecks=[ready, CHECK])).why
    assert why == "The workload has not all checks ready; check nodes is Pending: Waiting for 2 nodes"


def test_a_deactivated_workload_waits_for_a_person() -> None:
    evicted = ("Evicted", "True", "Deactivated", "The workload is deactivated")
    found = read_workload(workload(evicted, unreserved("The workload is deactivated"), active=False))
    assert found.for_ever
    assert found.why.startswith("evicted (Deactivated): The workload is deactivated; deactivated: ")


@pytest.mark.parametrize("version", ["kueue.x-k8s.io/v1beta2", "kueue.x-k8s.io/v1beta1"])
def test_status_and_wait_say_what_kueue_says(
    server: ApiServer,
    cluster: MakeCluster,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    version: str,
) -> None:
    monkeypatch.setattr("jobctl.jobs.cli.follow.BLOCKED_SECONDS", 0.0)
    cluster(FINISH)
    for plural in ("workloads", "localqueues"):
        server.store.served[version, plural] = server.store.served.pop(("kueue.x-k8s.io/v1beta2", plural))
    queue = {
        "apiVersion": version,
        "kind": "LocalQueue",
        "metadata": {"name": "other"},
        "spec": {"clusterQueue": "c"},
    }
    server.store.create(version, "localqueues", "jobctl", queue)
    code, _, err = jobctl_says(capfd, "submit", *SMOKE, "--run", "demo", "--set", "queue=other")
    assert code == 0, err
    job = server.store.get("kubeflow.org/v1", "pytorchjobs", "jobctl", "demo")
    thing = workload(unreserved(TOO_MUCH), NO_RESERVATION)
    thing["metadata"]["ownerReferences"] = [{"uid": job["metadata"]["uid"]}]
    server.store.create(version, "workloads", "jobctl", thing)
    until(lambda: f"in queue other: {TOO_MUCH}" in jobctl_says(capfd, "status", "demo")[1])
    code, out, err = jobctl_says(capfd, "wait", "demo")
    assert code == 1
    assert "maximum capacity" in out + err


def test_a_queue_that_is_not_there_takes_no_job(server: ApiServer) -> None:
    spec = spec_of(named={"kubernetes.queue": "gone"})
    with pytest.raises(UserError, match="namespace jobctl has no LocalQueue gone"):
        apply(PYTORCH, spec)
    for kind in (LOCAL_QUEUE, LOCAL_QUEUE_V1BETA1):
        server.store.served.pop((kind.api_version, kind.plural), None)
    with pytest.raises(UserError, match="the cluster has no Kueue"):
        apply(PYTORCH, spec)
    assert made(server) == []


def test_who_may_not_see_queues_may_submit(server: ApiServer) -> None:
    server.rights = {right for right in server.rights if right[1] != "localqueues"}
    apply(PYTORCH, spec_of(named={"kubernetes.queue": "gone"}))
    assert "pytorchjobs" in made(server)
