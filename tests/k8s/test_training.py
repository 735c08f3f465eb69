"""The real trainer in pods: their rendered command, run as a process with the environment that the operator sets."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobctl.k8s.target import PYTORCH, TRAIN, KubernetesTarget
from tests.k8s.cluster import Cluster
from tests.k8s.conftest import apply, spec_of
from tests.k8s.server import ApiServer
from tests.k8s.test_verbs import record_of, until
from tests.trainer.corpus import write_corpus

TINY: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "block_size": 32, "batch_size": 2, "max_iters": 60, "log_interval": 5,
    "eval_interval": 1000, "eval_iters": 1, "checkpoint_interval": 0,
}  # fmt: skip
TARGETS = {"k8s": PYTORCH, "k8s-trainjob": TRAIN}


@pytest.fixture
def nodes(server: ApiServer) -> Iterator[Cluster]:
    """Pods whose interpreter is this one. They share a machine, so the master's port is one that is free on it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    cluster = Cluster(
        server,
        {
            "JOBCTL_PYTHON": sys.executable,
            "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "HOME": "/nonexistent",
            "PET_MASTER_PORT": port, "MASTER_PORT": port,
        },
    )  # fmt: skip
    yield cluster
    cluster.close()


@pytest.fixture
def corpus(server: ApiServer) -> Path:
    return write_corpus(server.volume / "datasets" / "sotu-gpt2", tokens=40000, vocab=50257, tokenizer="gpt2")


def test_prep_by_two_real_workers_is_whole_though_one_is_killed(server: ApiServer, nodes: Cluster) -> None:
    """Its pod is made again, and the claim of the dead one is taken over."""
    flags = ("--shard-bytes=500000", "--stale-seconds=2", "--workers=1")
    named = {"dataset": "sotu", "tokenizer": "gpt2"}
    apply(
        PYTORCH,
        spec_of("data", nodes=2, kind="prep", model="", stage="train", trainer_flags=flags, named=named),
    )
    output = server.volume / "datasets" / "sotu-gpt2"

    def claimed() -> bool:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # given back in this moment
            claims = [path.read_text() for path in (output / ".prep/claims").glob("tokenizing-*")]
            owners = [claim.partition(" ")[0] for claim in claims if claim]
            groups = [os.getpgid(int(owner.rpartition(":")[2])) for owner in owners]
            return nodes.process("data-1").pid in groups
        return False

    until(lambda: "data-1" in [p["metadata"]["name"] for p in server.store.list_all("v1", "pods", "jobctl")])
    until(claimed, seconds=120)
    killed = nodes.process("data-1")
    os.killpg(killed.pid, signal.SIGKILL)
    until(lambda: (output / "meta.json").exists(), seconds=120)
    until(
        lambda: "Complete" in str(server.store.get("batch/v1", "jobs", "jobctl", "data").get("status")),
        seconds=60,
    )
    assert nodes.process("data-1").pid != killed.pid
    verified = subprocess.run(
        [sys.executable, "-m", "jobctl.prep.verify", output], capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0, verified.stderr


def losses(run: Path) -> dict[int, float]:
    """Loss by step, over all attempts."""
    lines = [
        line for file in sorted((run / "metrics").glob("*.jsonl")) for line in file.read_text().splitlines()
    ]
    records = [json.loads(line) for line in lines]
    return {r["iter"]: r["loss"] for r in records if r["kind"] == "iteration"}


def ended(target: KubernetesTarget, server: ApiServer, run: str) -> bool:
    status = server.store.get(target.kind.api_version, target.kind.plural, "jobctl", run).get("status", {})
    held = {condition["type"] for condition in status.get("conditions", [])}
    assert "Failed" not in held, status
    return bool(held & {"Succeeded", "Complete"})


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.usefixtures("corpus")
def test_an_evicted_pod_stops_all_with_200_and_the_next_attempt_ends_as_if_nothing_had_been(
    name: str, server: ApiServer, nodes: Cluster
) -> None:
    target, runs = TARGETS[name], server.volume / "runs"
    apply(target, spec_of("whole", target=name, nodes=2, named=TINY))
    until(lambda: ended(target, server, "whole"), seconds=240)
    apply(target, spec_of("train", target=name, nodes=2, named=TINY))
    until(lambda: len(losses(runs / "train")) >= 10, seconds=120)
    pods = [
        p["metadata"]["name"]
        for p in server.store.list_all("v1", "pods", "jobctl", "app.kubernetes.io/instance=train")
    ]
    server.store.delete("v1", "pods", "jobctl", max(pods))
    until(lambda: ended(target, server, "train"), seconds=240)
    first, second = record_of(server, "train", 1), record_of(server, "train", 2)
    assert (first["exit_code"], first["reason"]) == (200, "preempted")
    assert (second["exit_code"], second["reason"]) == (0, "finished")
    assert not record_of(server, "train", 3)
    for attempt in ("1", "2"):
        logs = sorted(path.name for path in (runs / "train/logs" / attempt).glob("rank-*"))
        assert logs == ["rank-00000.log", "rank-00001.log"]
    assert (runs / "train/checkpoints/LATEST").read_text().strip() == "step-60"
    assert losses(runs / "train") == losses(runs / "whole")
    assert sorted(losses(runs / "whole")) == list(range(1, 61))
