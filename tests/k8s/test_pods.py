"""What the pods' script promises: one attempt for all pods, the exit contract, STOP, and peers that die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

import jobctl.templates
from jobctl.jobs.core import exit_codes
from jobctl.k8s.target import PYTORCH
from tests.k8s.cluster import Cluster
from tests.k8s.conftest import MakeCluster, apply, spec_of
from tests.k8s.server import ApiServer
from tests.k8s.test_verbs import record_of, until

TEMPLATES = Path(jobctl.templates.__file__).parent
UNTIL_STOP = 'until [ -e "$run_dir/STOP" ]; do sleep 0.05; done; exit 200'


def conditions(server: ApiServer, job: str = "demo") -> set[str]:
    status = server.store.get("kubeflow.org/v1", "pytorchjobs", "jobctl", job).get("status", {})
    return {condition["type"] for condition in status.get("conditions", [])}


def start(cluster: Cluster, nodes: int, **named: object) -> None:
    apply(PYTORCH, spec_of(nodes=nodes, named=named))


def test_all_pods_take_part_in_one_attempt(server: ApiServer, cluster: MakeCluster) -> None:
    start(cluster('echo "$attempt $node $*" >>"$run_dir/said"; exit 0'), nodes=3)
    until(lambda: "Succeeded" in conditions(server))
    until(lambda: len((server.volume / "runs/demo/said").read_text().splitlines()) == 3)
    said = sorted((server.volume / "runs/demo/said").read_text().splitlines())
    assert [line.split()[:2] for line in said] == [["1", "0"], ["1", "1"], ["1", "2"]]
    for line in said:
        assert "--nnodes=3 --nproc_per_node=1" in line
        assert "--master_addr=127.0.0.1 --master_port=23456 --rdzv_id=demo-1" in line
    nodes = str(record_of(server, "demo", 1)["nodes"]).split(",")
    assert nodes == ["node-demo-master-0", "node-demo-worker-0", "node-demo-worker-1"]
    assert sorted(p.name for p in (server.volume / "runs/demo/attempts").iterdir()) == ["1.json"]


def test_all_pods_agree_on_the_next_attempt_too(server: ApiServer, cluster: MakeCluster) -> None:
    start(cluster('echo "$attempt $node" >>"$run_dir/said"; [ "$attempt" = 1 ] && exit 200; exit 0'), nodes=2)
    until(lambda: "Succeeded" in conditions(server))
    until(lambda: len((server.volume / "runs/demo/said").read_text().splitlines()) == 4)
    assert sorted((server.volume / "runs/demo/said").read_text().splitlines()) == ["1 0", "1 1", "2 0", "2 1"]


def test_a_pod_that_dies_without_a_word_does_not_end_the_run(
    server: ApiServer, cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its peer's trainer fails, as it does when a connection breaks, and both start again."""
    monkeypatch.setattr("jobctl.k8s.manifest.LAST_WORDS_SECONDS", 2)
    plan = (
        '[ "$attempt" = 2 ] && exit 0; touch "$run_dir/up-$node"; '
        'if [ "$node" = 0 ]; then until [ -e "$run_dir/dead" ]; do sleep 0.05; done; exit 1; fi; sleep 60'
    )
    running = cluster(plan)
    start(running, nodes=2)
    until(lambda: (server.volume / "runs/demo/up-1").exists())
    os.killpg(running.process("demo-worker-0").pid, signal.SIGKILL)
    (server.volume / "runs/demo/dead").touch()
    until(lambda: "Succeeded" in conditions(server))
    assert record_of(server, "demo", 1)["exit_code"] == 1
    assert record_of(server, "demo", 2)["reason"] == "finished"


@pytest.mark.parametrize("killed", ["0", "1"])
def test_a_killed_rank_is_the_cause_in_whichever_pod_and_all_go_on(
    server: ApiServer, cluster: MakeCluster, killed: str
) -> None:
    """Its peer fails with 1, which is never tried again; and does so first."""
    start(
        cluster(f'[ "$attempt" = 2 ] && exit 0; [ "$node" != {killed} ] && exit 1; sleep 2; exit 137'),
        nodes=2,
    )
    until(lambda: "Succeeded" in conditions(server))
    assert (record_of(server, "demo", 1)["exit_code"], record_of(server, "demo", 1)["reason"]) == (
        137,
        "failed",
    )
    assert record_of(server, "demo", 2)["reason"] == "finished"


def test_a_broken_gpu_of_another_pod_is_the_cause(server: ApiServer, cluster: MakeCluster) -> None:
    start(cluster('[ "$node" = 0 ] && exit 1; sleep 1; exit 201'), nodes=2)
    until(lambda: "Failed" in conditions(server))
    assert (record_of(server, "demo", 1)["exit_code"], record_of(server, "demo", 1)["reason"]) == (
        201,
        "hardware",
    )


def test_a_failure_of_all_pods_is_a_failure(server: ApiServer, cluster: MakeCluster) -> None:
    start(cluster("exit 1"), nodes=2)
    until(lambda: "Failed" in conditions(server))
    assert record_of(server, "demo", 1)["reason"] == "failed"
    assert not record_of(server, "demo", 2)


def test_sigterm_is_a_wish_to_stop(server: ApiServer, cluster: MakeCluster) -> None:
    """As a drained node's kubelet sends it, should the hook before it not have been enough."""
    running = cluster(f'[ "$attempt" = 2 ] && exit 0; touch "$run_dir/up"; {UNTIL_STOP}')
    start(running, nodes=1)
    until((server.volume / "runs/demo/up").exists)
    running.process("demo-master-0").send_signal(signal.SIGTERM)
    until(lambda: "Succeeded" in conditions(server))
    assert record_of(server, "demo", 1)["reason"] == "preempted"


def test_a_deleted_pod_checkpoints_before_it_goes(server: ApiServer, cluster: MakeCluster) -> None:
    start(cluster(f'[ "$attempt" = 2 ] && exit 0; touch "$run_dir/up"; {UNTIL_STOP}'), nodes=1)
    until((server.volume / "runs/demo/up").exists)
    server.store.delete("v1", "pods", "jobctl", "demo-master-0")
    until(lambda: "Succeeded" in conditions(server))
    assert record_of(server, "demo", 1)["exit_code"] == 200


def test_a_pod_that_waits_for_others_stops_no_attempt_when_it_is_deleted(
    server: ApiServer, cluster: MakeCluster
) -> None:
    """Its hook runs while the next attempt may have begun in other pods."""
    running = cluster("exit 0")
    running.unschedulable = {"demo-worker-0": "no GPU is free"}
    start(running, nodes=2)
    until(lambda: (server.volume / "runs/demo/logs/1").exists())
    server.store.delete("v1", "pods", "jobctl", "demo-master-0")
    until(lambda: (server.volume / "runs/demo/logs/2").exists())
    assert not (server.volume / "runs/demo/STOP").exists()
    running.unschedulable = {}
    until(lambda: "Succeeded" in conditions(server))
    assert record_of(server, "demo", 2)["reason"] == "finished"


def test_failures_are_tried_again_as_often_as_retries_says(server: ApiServer, cluster: MakeCluster) -> None:
    start(cluster('[ "$attempt" = 3 ] && exit 0; exit 1'), nodes=2, retries=2)
    until(lambda: "Succeeded" in conditions(server))
    assert [record_of(server, "demo", n)["reason"] for n in (1, 2, 3)] == ["failed", "failed", "finished"]


@pytest.mark.parametrize("code", [1, 201])
def test_a_failure_too_many_is_the_end(server: ApiServer, cluster: MakeCluster, code: int) -> None:
    start(cluster(f"exit {code}"), nodes=1, retries=1)
    until(lambda: "Failed" in conditions(server))
    assert record_of(server, "demo", 2)["exit_code"] == code
    assert not record_of(server, "demo", 3)


def test_preemptions_do_not_count_as_attempts(server: ApiServer, cluster: MakeCluster) -> None:
    plan = f'[ "$attempt" = 4 ] && exit 0; touch "$run_dir/up-$attempt"; {UNTIL_STOP}'
    start(cluster(plan), nodes=1, max_attempts=1)
    for attempt in (1, 2, 3):
        until((server.volume / f"runs/demo/up-{attempt}").exists)
        server.store.delete("v1", "pods", "jobctl", "demo-master-0")
    until(lambda: "Succeeded" in conditions(server))


BAD_NODE = (
    'case $* in *jobctl.trainer.preflight*) echo "$*" >>"$run_dir/preflights";'
    ' printf "%s\\tslow\\n" n0 >"$run_dir/logs/$attempt/bad-nodes"; exit 1 ;; esac; exit 0'
)


def test_a_training_does_not_begin_on_a_node_that_the_preflight_condemns(
    server: ApiServer, cluster: MakeCluster
) -> None:
    start(cluster(BAD_NODE), nodes=2, preflight="stop")
    until(lambda: "Failed" in conditions(server))
    assert record_of(server, "demo", 1)["reason"] == "hardware"
    asked = (server.volume / "runs/demo/preflights").read_text().splitlines()
    assert len(asked) == 2
    for node, line in enumerate(sorted(asked, key=lambda line: "--node_rank=1" in line)):
        assert f"--node_rank={node} " in line
        assert "--hosts=node-demo-master-0,node-demo-worker-0" in line
        assert "--master_port=23457 --" in line


def test_a_preflight_that_only_reports_holds_nothing_up(server: ApiServer, cluster: MakeCluster) -> None:
    start(cluster(BAD_NODE), nodes=2, preflight="report")
    until(lambda: "Succeeded" in conditions(server))
    assert (server.volume / "runs/demo/preflights").exists()


def test_sigterm_ends_a_pod_that_trains_nothing_at_once(server: ApiServer, cluster: MakeCluster) -> None:
    """A worker that prepares data has nothing to checkpoint, and its pod is not held for the grace period."""
    running = cluster('touch "$root/up"; [ -e "$root/again" ] && exit 0; touch "$root/again"; sleep 60')
    apply(PYTORCH, spec_of("prep", kind="prep", model="", stage="train", named={"processes_per_node": 0}))
    until((server.volume / "up").exists)
    process = running.process("prep-0")
    server.store.delete("v1", "pods", "jobctl", "prep-0")
    until(lambda: process.poll() is not None, seconds=10)
    until(lambda: record_of(server, "prep", 2).get("reason") == "finished")


def test_attempts_are_bounded(server: ApiServer, cluster: MakeCluster) -> None:
    start(cluster("exit 200"), nodes=1, max_attempts=2)
    until(lambda: "Failed" in conditions(server))
    assert record_of(server, "demo", 2)["exit_code"] == 200
    assert not record_of(server, "demo", 3)


def test_another_spec_cannot_take_the_runs_directory(server: ApiServer, cluster: MakeCluster) -> None:
    folder = server.volume / "runs/demo"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"spec_hash": "0123456789abcdef"}\n')
    start(cluster("exit 0"), nodes=1)
    until(lambda: "Failed" in conditions(server))
    assert list(folder.glob("logs/*")) == []


def test_the_volumes_record_is_the_submitted_one(server: ApiServer, cluster: MakeCluster) -> None:
    start(cluster("exit 0"), nodes=1)
    until(lambda: "Succeeded" in conditions(server))
    record = json.loads((server.volume / "runs/demo/run.json").read_text())
    kept = server.store.get("v1", "configmaps", "jobctl", "demo")["data"]["run.json"]
    assert record == json.loads(kept)
    assert record["spec"]["site"]["root"] == "/workspace"


def test_no_object_holds_the_value_of_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest names the Secret, and its script the variables that the Secret must have a key for."""
    monkeypatch.setenv("HF_TOKEN", "hf-of-this-host")
    text = PYTORCH.render(spec_of(named={"secret": "tokens", "pass_env": ("HF_TOKEN",)}))
    assert 'secretName: "tokens"' in text
    assert "require_variables HF_TOKEN\n" in text
    assert "hf-of-this-host" not in text


def test_each_key_of_the_secret_is_a_variable(tmp_path: Path) -> None:
    (tmp_path / "HF_TOKEN").write_text("from the Secret\n")
    (tmp_path / "not-a-name").write_text("7")
    said = read_secrets(tmp_path, 'require_variables HF_TOKEN; printf "%s" "$HF_TOKEN"')
    assert (said.returncode, said.stdout) == (0, "from the Secret")


def test_a_variable_that_the_secret_has_not_is_wrong_usage(tmp_path: Path) -> None:
    said = read_secrets(tmp_path, "require_variables WANDB_API_KEY")
    assert said.returncode == exit_codes.EXIT_USAGE
    assert "pass_env WANDB_API_KEY: the Secret has no key of that name" in said.stdout + said.stderr


def read_secrets(folder: Path, then: str) -> subprocess.CompletedProcess[str]:
    """Read the Secret that is mounted at ``folder`` as a pod's script does, and go on with ``then``."""
    functions = f". {TEMPLATES}/shell/messages.sh; . {TEMPLATES}/kubernetes/secret_folder.sh"
    words = ["bash", "-c", f'set -euo pipefail; {functions}; read_secrets "$1"; {then}', "pod", str(folder)]
    environment = {"PATH": os.environ["PATH"], "EXIT_USAGE": str(exit_codes.EXIT_USAGE)}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
