"""The time limit of an attempt, kept by the pod: the operator keeps none that it is given."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobctl.k8s.target import PYTORCH, TRAIN
from tests.k8s.conftest import MANIFESTS, MakeCluster, apply, spec_of
from tests.k8s.server import ApiServer
from tests.k8s.test_pods import UNTIL_STOP, conditions, start
from tests.k8s.test_verbs import jobctl_says, record_of, until

SOON = {"time_limit": "0:00:04", "stop_grace_seconds": 3}


@pytest.fixture(autouse=True)
def _short_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobctl.k8s.manifest.KILL_SECONDS", 1)


def test_a_training_is_warned_checkpoints_and_goes_on(server: ApiServer, cluster: MakeCluster) -> None:
    start(cluster(f'[ "$attempt" = 2 ] && exit 0; {UNTIL_STOP}'), nodes=2, **SOON)
    until(lambda: "Succeeded" in conditions(server))
    first = record_of(server, "demo", 1)
    assert (first["exit_code"], first["reason"]) == (200, "time limit")
    assert record_of(server, "demo", 2)["reason"] == "finished"


def test_a_run_that_never_ends_in_its_time_is_bounded_and_can_be_resumed(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    start(cluster(UNTIL_STOP), nodes=1, max_attempts=1, **SOON)
    until(lambda: "Failed" in conditions(server))
    status = json.loads(jobctl_says(capfd, "status", "demo", "--target", "k8s", "--json")[1])
    assert (status["state"], status["exit_code"], status["attempt"]) == ("stopped", 200, 1)
    assert status["detail"].startswith("time limit")


def test_a_training_that_does_not_checkpoint_in_time_is_ended(
    server: ApiServer, cluster: MakeCluster
) -> None:
    start(cluster('trap "" TERM; while :; do sleep 0.1; done'), nodes=1, **SOON)
    until(lambda: "Failed" in conditions(server))
    record = record_of(server, "demo", 1)
    assert (record["exit_code"], record["reason"]) == (137, "time limit")
    assert not record_of(server, "demo", 2)


def test_prep_ends_at_the_warning_and_goes_on_from_what_is_done(
    server: ApiServer, cluster: MakeCluster
) -> None:
    cluster('[ -e "$root/again" ] && exit 0; touch "$root/again"; sleep 60')
    spec = spec_of("prep", kind="prep", model="", stage="train", named={"processes_per_node": 0, **SOON})
    apply(PYTORCH, spec)
    until(lambda: record_of(server, "prep", 2).get("reason") == "finished")
    first = record_of(server, "prep", 1)
    assert (first["exit_code"], first["reason"]) == (200, "time limit")


def test_an_evaluation_uses_its_time_and_is_not_tried_again(server: ApiServer, cluster: MakeCluster) -> None:
    cluster("[[ $* != *--eval_only=True* ]] || exec sleep 60; exit 0")
    apply(PYTORCH, spec_of("demo", stage="train"))
    until(lambda: "Succeeded" in conditions(server))
    apply(PYTORCH, spec_of("demo", kind="eval", stage=None, named=SOON))
    until(lambda: "Failed" in conditions(server, "demo--eval"))
    assert record_of(server, "demo", 2)["reason"] == "time limit"
    assert not record_of(server, "demo", 3)


def test_who_asked_first_is_the_reason(server: ApiServer, cluster: MakeCluster) -> None:
    """A pod that is deleted while its training checkpoints for the time limit was not preempted."""
    plan = '[ "$attempt" = 2 ] && exit 0; until [ "$(wc -l <"$run_dir/STOP")" = 2 ]; do sleep 0.05; done; exit 200'
    start(cluster(plan), nodes=1, time_limit="0:01:00", stop_grace_seconds=59)
    until(lambda: (server.volume / "runs/demo/STOP").exists())
    server.store.delete("v1", "pods", "jobctl", "demo-master-0")
    until(lambda: record_of(server, "demo", 1).get("reason") is not None)
    assert record_of(server, "demo", 1)["reason"] == "time limit"


@pytest.mark.parametrize("target", ["k8s", "k8s-trainjob"])
def test_no_limit_is_left_to_an_operator(target: str) -> None:
    text = {"k8s": PYTORCH, "k8s-trainjob": TRAIN}[target].render(spec_of(target=target, nodes=2))
    _, job = yaml.safe_load_all(text)
    spec: dict[str, Any] = job["spec"]
    assert "activeDeadlineSeconds" not in {*spec, *spec.get("runPolicy", {})}
    assert "JOB_LIMIT_SECONDS=" in text


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_trainjobs_script_that_hangs_is_ended_and_the_run_goes_on(
    server: ApiServer, cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch, nodes: int
) -> None:
    """A TrainJob can give its pods no limit of the kubelet's, and a script that hangs keeps none itself."""
    monkeypatch.setattr("jobctl.k8s.manifest.START_SECONDS", 2)
    monkeypatch.setattr("jobctl.k8s.manifest.LAST_WORDS_SECONDS", 0)
    running = cluster(
        '[ "$attempt" = 2 ] && exit 0; trap "" TERM; while :; do touch "$run_dir/up"; sleep 0.1; done'
    )
    apply(TRAIN, spec_of(target="k8s-trainjob", nodes=nodes, named=SOON))
    until((server.volume / "runs/demo/up").exists)
    first = running.process("demo-node-0-0").pid
    (script,) = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    os.kill(int(script), signal.SIGSTOP)
    until(lambda: record_of(server, "demo", 2).get("reason") == "finished")
    assert record_of(server, "demo", 1)["end"]
    assert not Path(f"/proc/{script}").exists(), "what runs in a container ends with it"


def test_only_a_trainjob_has_no_time_to_live() -> None:
    """Its JobSet would be made again when it has failed (kubeflow/trainer#3779)."""
    ttl = "ttlSecondsAfterFinished: 604800"
    assert ttl in PYTORCH.render(spec_of())
    assert ttl in PYTORCH.render(spec_of("prep", kind="prep", model="", stage="train"))
    assert "ttlSeconds" not in TRAIN.render(spec_of(target="k8s-trainjob"))
    assert "ttlSeconds" not in (MANIFESTS / "trainer-v2" / "runtime.yaml").read_text()


def test_the_kubelets_limit_is_behind_the_scripts() -> None:
    _, job = yaml.safe_load_all(PYTORCH.render(spec_of(named={"time_limit": "1:00:00"})))
    pod = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
    assert pod["activeDeadlineSeconds"] > 3600
