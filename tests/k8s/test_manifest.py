"""Every object of the whole catalogue, against the closed schemas; and that what users type stays data."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jobctl.jobs.catalog.loader import names as entries
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.job_spec import seconds
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.k8s import names
from jobctl.k8s.manifest import literal_block
from jobctl.k8s.target import PYTORCH, TRAIN, KubernetesTarget
from tests.k8s import webhooks
from tests.k8s.conftest import MANIFESTS, spec_of
from tests.k8s.schemas import problems

GOLDEN = Path(__file__).parent / "golden"
TARGETS = {"k8s": PYTORCH, "k8s-trainjob": TRAIN}


def objects(target: KubernetesTarget, spec: Any) -> list[dict[str, Any]]:
    return list(yaml.load_all(target.render(spec), Loader=yaml.CSafeLoader))


def denied(job: dict[str, Any]) -> list[str]:
    """What the webhook of the job's operator, on a cluster with our manifests, says against it."""
    if job["kind"] == "PyTorchJob":
        return list(webhooks.pytorchjob(job))
    runtime = yaml.safe_load((MANIFESTS / "trainer-v2" / "runtime.yaml").read_text())
    return list(webhooks.trainjob(job, {runtime["metadata"]["name"]: runtime}))


@pytest.mark.parametrize("hardware", entries("hardware"))
@pytest.mark.parametrize("target", TARGETS)
def test_every_combination_of_the_catalogue_is_valid(target: str, hardware: str) -> None:
    for model, tier, stage in itertools.product(entries("models"), entries("tiers"), entries("stages")):
        nodes = 2 if tier == "2" else 1
        site = "example-k8s" if stage == "train" else None
        choices = Choices(
            model=model,
            hardware=hardware,
            tier=int(tier),
            stage=stage,
            target=target,
            site=site,
            # Of some hardware the processors run no image of jobctl's.
            named={"nodes": nodes, "image": "registry.example.org/jobctl:1"},
        )
        record, job = objects(TARGETS[target], resolve(choices, version="1").spec)
        assert problems(record) == problems(job) == []
        assert denied(job) == []


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", ["train", "preflight"])
def test_the_longest_run_on_a_thousand_nodes_is_taken(kind: str, target: str) -> None:
    model = "qwen3_smoke" if kind == "train" else ""
    job = objects(TARGETS[target], spec_of("x" * 100, target, nodes=1000, kind=kind, model=model))[1]
    assert problems(job) == denied(job) == []


@pytest.mark.parametrize("kind", ["prep", "export", "tokenizer"])
def test_what_is_no_training_is_a_valid_job(kind: str) -> None:
    record, job = objects(
        PYTORCH, spec_of(kind=kind, model="", stage="train", nodes=4, named={"processes_per_node": 0})
    )
    assert problems(record) == problems(job) == []
    assert (job["kind"], job["spec"]["completionMode"], job["spec"]["completions"]) == ("Job", "Indexed", 4)


@pytest.mark.parametrize("target", TARGETS)
def test_golden(target: str, request: pytest.FixtureRequest) -> None:
    """Two nodes of H100 with RDMA at a full site. To renew: make golden."""
    import os

    spec = resolve(
        Choices(
            model="qwen3_1.8b", hardware="h100", tier=2, target=target, run="golden", site="example-k8s",
            named={"nodes": 2, "rdma_resource": "rdma/ib", "exclude": "node-7", "node_selector": {"pool": "train"}},
        ),
        version="0.0.0",
    ).spec  # fmt: skip
    text = TARGETS[target].render(spec)
    path = GOLDEN / f"{target}.yaml"
    if os.environ.get("JOBCTL_UPDATE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
    assert [problem for thing in yaml.safe_load_all(text) for problem in problems(thing)] == []


def pod_of(spec: Any) -> dict[str, Any]:
    job = objects(PYTORCH, spec)[1]
    template: dict[str, Any] = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]
    return template


def test_pods_have_no_more_rights_than_they_need() -> None:
    spec = pod_of(spec_of())["spec"]
    container = spec["containers"][0]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "privileged" not in str(spec)


def test_rdma_gets_its_device_and_may_pin_memory() -> None:
    spec = resolve(
        Choices(
            model="qwen3_1.8b", hardware="h100", target="k8s", named={"nodes": 2, "rdma_resource": "rdma/ib"}
        ),
        version="1",
    ).spec
    container = pod_of(spec)["spec"]["containers"][0]
    limits = container["resources"]["limits"]
    assert (limits["nvidia.com/gpu"], limits["rdma/ib"]) == (8, 8)
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["IPC_LOCK"]}


def test_cpus_and_memory_are_limited_above_what_is_promised() -> None:
    """A namespace with a quota on limits admits no pod without them."""
    resources = pod_of(spec_of())["spec"]["containers"][0]["resources"]
    for name in ("cpu", "memory"):
        promised, most = (
            int(str(resources[side][name]).removesuffix("Gi")) for side in ("requests", "limits")
        )
        assert 0 < promised <= most


@pytest.mark.parametrize("target", TARGETS)
def test_pods_of_a_dead_node_go_after_a_minute(target: str) -> None:
    text = TARGETS[target].render(spec_of(target=target, nodes=2))
    for taint in ("not-ready", "unreachable"):
        key = f"node.kubernetes.io/{taint}"
        assert f"{{key: {key}, operator: Exists, effect: NoExecute, tolerationSeconds: 60}}" in text


def test_one_node_alone_needs_no_rdma_and_no_right_to_pin_memory() -> None:
    container = pod_of(spec_of(named={"rdma_resource": "rdma/ib"}))["spec"]["containers"][0]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "rdma/ib" not in container["resources"]["limits"]


def test_a_pod_has_time_to_checkpoint() -> None:
    spec = pod_of(spec_of(named={"stop_grace_seconds": 120}))["spec"]
    assert spec["terminationGracePeriodSeconds"] > 120
    assert spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == ["bash", "/etc/jobctl/stop"]


def test_shared_memory_is_as_large_as_the_hardware_says() -> None:
    volumes = {volume["name"]: volume for volume in pod_of(spec_of())["spec"]["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}


def test_secrets_are_named_and_never_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_sesame")
    text = PYTORCH.render(spec_of(named={"secret": "tokens", "pass_env": ("HF_TOKEN",)}))
    assert 'secretName: "tokens"' in text
    assert "hf_sesame" not in text
    with pytest.raises(UserError, match="only by reference"):
        PYTORCH.render(spec_of(named={"pass_env": ("HF_TOKEN",)}))


def test_ranges_of_nodes_are_refused() -> None:
    with pytest.raises(UserError, match="no ranges"):
        PYTORCH.render(spec_of(named={"exclude": "node[1-3]"}))


def test_a_run_without_a_name_gets_the_same_one_each_time() -> None:
    assert PYTORCH.render(spec_of(run=None)) == PYTORCH.render(spec_of(run=None))


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True))
def test_any_runs_name_becomes_an_objects_name(run: str) -> None:
    name = names.object_name(run)
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(f"{name}-worker-9999") <= 63


def test_different_runs_have_different_objects() -> None:
    runs = ["a.b", "a-b", "A-b", "a_b", "a" * 60, "a" * 61, "1a", "run-1a"]
    assert len({names.object_name(run) for run in runs}) == len(runs)


@given(st.text())
def test_any_text_survives_a_literal_block(text: str) -> None:
    script = f"#!/bin/bash\n{text}\n"
    loaded = yaml.safe_load(f"data:\n    script: {literal_block(script, 8)}\n    next: 1\n")
    assert loaded["data"]["next"] == 1
    assert loaded["data"]["script"].rstrip("\n") == script.rstrip("\n")


@settings(max_examples=40)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_what_a_user_types_stays_data(value: str) -> None:
    """A value of the environment comes out of YAML and of the shell as it went in."""
    site = msgspec.structs.replace(spec_of().site, env={"WISH": value})
    spec = msgspec.structs.replace(spec_of(), site=site)
    record, job = objects(PYTORCH, spec)
    assert problems(record) == problems(job) == []
    line = re.search(r"^export WISH=(.*?)\nPYTHON=", record["data"]["script"], re.S | re.M)
    assert line
    said = subprocess.run(["bash", "-c", f"printf %s {line[1]}"], capture_output=True, check=True).stdout
    assert said.decode() == value


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
@pytest.mark.parametrize("kind", ["train", "two pods", "sweep", "eval", "prep", "export"])
def test_shellcheck_finds_nothing(kind: str, tmp_path: Path) -> None:
    more: dict[str, Any] = {"secret": "tokens"}
    if kind in ("prep", "export"):
        spec = spec_of(kind=kind, model="", stage="train", named={"processes_per_node": 0, **more})
    else:
        stage = kind if kind in ("sweep", "eval") else "train"
        spec = spec_of(stage=stage, nodes=2 if kind == "two pods" else 1, named=more)
    data = objects(PYTORCH, spec)[0]["data"]
    for name in ("script", "stop"):
        (tmp_path / name).write_text(data[name])
    subprocess.run(["shellcheck", str(tmp_path / "script"), str(tmp_path / "stop")], check=True)


def test_time_limits_in_seconds() -> None:
    assert [seconds(text) for text in ("2:00:00", "1-00:00:30", "0:10:00")] == [7200, 86430, 600]
