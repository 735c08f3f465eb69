"""Every setting of a job, on both targets: it changes what the cluster is given, or it is refused by its name.

``docs/kubernetes.md`` has a table of the settings; each row is checked here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobctl.jobs.catalog.schema.job import Inputs, Resources
from jobctl.jobs.catalog.schema.keys import KEYS
from jobctl.jobs.catalog.schema.model import ModelConfig
from jobctl.jobs.catalog.schema.training import TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.jobs.targets.registry import KUBERNETES_REFUSES
from tests.k8s.test_manifest import TARGETS

PAGE = Path(__file__).parents[2] / "docs" / "kubernetes.md"
_ROW = re.compile(r"^\| `([a-z_.*]+)` \| (\w[^|]*?) \| (\w[^|]*?) \|", re.M)

BASE: dict[str, Any] = {
    "nodes": 2,
    "gpus_per_node": 8,
    "preflight": "report",
    "kubernetes.rdma_resource": "rdma/ib",
    "kubernetes.secret": "tokens",
    "kubernetes.queue": "team",
}
VALUES: dict[str, Any] = {
    "nodes": 3,
    "gpus_per_node": 4,
    "processes_per_node": 2,
    "time_limit": "1:00:00",
    "stop_grace_seconds": 77,
    "max_attempts": 7,
    "retries": 3,
    "array_limit": 5,
    "master_port": 12345,
    "dataset": "sotu",
    "tokenizer": "gpt2",
    "image_variant": "cu124",
    "image": "registry.example.org/x:1",
    "sweep_batch_sizes": (3, 5),
    "root": "/elsewhere",
    "python": "/opt/python",
    "project_dir": "/src",
    "modules": ("cuda",),
    "env": {"A": "b"},
    "pass_env": ("HF_TOKEN",),
    "secrets_file": "/secrets",
    "preflight": "stop",
    "nodelist": "n1",
    "exclude": "n2",
    "cpus_per_task": 9,
    "compile_cache_gib": 1.0,
    "container.modules": ("nccl",),
    "container.runtime": "podman",
    "container.share_image": False,
    "container.mounts": ("/nvme:/scratch",),
    "kubernetes.context": "elsewhere",
    "kubernetes.namespace": "other",
    "kubernetes.queue": "research",
    "kubernetes.pvc": "volume",
    "kubernetes.pull_secret": "registry",
    "kubernetes.secret": "others",
    "kubernetes.run_as_user": 1234,
    "kubernetes.gpu_resource": "amd.com/gpu",
    "kubernetes.rdma_resource": "vendor/rdma",
    "kubernetes.rdma_devices": 4,
    "kubernetes.node_selector": {"a": "b"},
    "kubernetes.tolerations": ("mine",),
    "kubernetes.memory": "9Gi",
    "kubernetes.cpu_limit": 99,
    "kubernetes.memory_limit": "999Gi",
    "kubernetes.gpu_product": "slice",
    "kubernetes.gpu_product_label": "gpu",
    "kubernetes.topology_required": "rack",
    "kubernetes.topology_preferred": "block",
    "kubernetes.pod": {"metadata": {"labels": {"cost": "x"}}},
    "login.host": "me@login",
    "login.jobctl": "/opt/jobctl",
    "prices.gpu_hour": 2.5,
    "prices.kwh": 0.3,
    "prices.currency": "EUR",
    "prices.pue": 1.5,
    "prices.disk_gb_s": 4.0,
}
"""A value of each key that differs from its default and from ``BASE``."""

ALL_KEYS = [key for key, section in KEYS.items() if section not in (ModelConfig, TrainConfig)]
SLURM_KEYS = [key for key in ALL_KEYS if key.startswith("slurm.")]
PRICE_KEYS = [key for key in ALL_KEYS if key.startswith("prices.")]
JOB_KEYS = [key for key in ALL_KEYS if key not in (*SLURM_KEYS, *PRICE_KEYS)]


def render(target: str, stage: str = "train", **more: Any) -> str:
    """The manifest without its record, which holds every setting."""
    named = {**BASE, **more}
    choices = Choices(
        model="qwen3_1.8b", hardware="h100", target=target, run="demo", stage=stage, named=named
    )
    text = TARGETS[target].render(resolve(choices, version="1").spec)
    ignored = ("spec_hash", "SPEC_HASH", "spec-hash")
    return "\n".join(line for line in text.splitlines() if not any(word in line for word in ignored))


def answer(key: str, target: str) -> str:
    """What the page has to say of a key: read, refused, or read by jobctl itself and not in the manifest."""
    stage = "sweep" if key == "sweep_batch_sizes" else "train"
    more = {"preflight": "off"} if stage == "sweep" else {}
    try:
        changed = render(target, stage, **{**more, key: VALUES[key]})
    except UserError as error:
        return "refused" if key in error.message else error.message

    return "read" if changed != render(target, stage, **more) else "by jobctl"


def table() -> dict[str, tuple[str, str]]:
    rows = {
        key: (first.split(":")[0], second.split(":")[0])
        for key, first, second in _ROW.findall(PAGE.read_text())
    }
    assert rows
    return rows


def test_the_page_has_a_row_for_every_setting_of_a_job() -> None:
    assert sorted(table()) == sorted([*JOB_KEYS, "slurm.*", "prices.*"])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("key", JOB_KEYS)
def test_a_setting_is_what_the_page_says(key: str, target: str) -> None:
    assert table()[key][list(TARGETS).index(target)] == answer(key, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("key", SLURM_KEYS)
def test_a_setting_of_slurm_is_refused_by_its_name(key: str, target: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"does not read {key}")):
        resolve(Choices(model="qwen3_1.8b", target=target, sets=(f"{key}=x",)), version="1")
    assert table()["slurm.*"] == ("refused", "refused")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("key", PRICE_KEYS)
def test_a_price_changes_no_object(key: str, target: str) -> None:
    assert answer(key, target) == "by jobctl"
    assert table()["prices.*"] == ("by jobctl", "by jobctl")


def test_what_is_refused_is_what_no_site_file_offers() -> None:
    refused = {key for key, row in table().items() if row == ("refused", "refused") and key in JOB_KEYS}
    assert refused == KUBERNETES_REFUSES.keys()


@pytest.mark.parametrize("key", ["kubernetes.topology_required", "kubernetes.topology_preferred"])
def test_a_topology_that_nobody_would_look_at_is_refused(key: str) -> None:
    with pytest.raises(UserError, match=f"{key}: only Kueue uses it"):
        render("k8s", **{"kubernetes.queue": "", key: "rack"})


def test_a_count_of_rdma_devices_without_their_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"rdma_devices is 4, but kubernetes\.rdma_resource is not set"):
        render("k8s", **{"kubernetes.rdma_resource": "", "kubernetes.rdma_devices": 4})


def test_a_time_limit_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="time_limit 0: the pods would end"):
        render("k8s", time_limit="0")


def test_a_time_limit_that_no_pod_can_count_is_refused() -> None:
    render("k8s", time_limit="24000-00")
    with pytest.raises(UserError, match="time_limit 24001-00: a pod's limit is at most 24,000 days"):
        render("k8s", time_limit="24001-00")


def test_kueue_takes_one_topology() -> None:
    both = {"kubernetes.topology_required": "rack", "kubernetes.topology_preferred": "block"}
    with pytest.raises(UserError, match="Kueue accepts only one of them"):
        render("k8s", **both)


def test_what_jobctl_itself_reads_is_little() -> None:
    by_jobctl = [key for key, row in table().items() if "by jobctl" in row]
    assert by_jobctl == ["root", "login.host", "login.jobctl", "prices.*", "kubernetes.context"]


def test_a_refusal_says_what_takes_the_place() -> None:
    with pytest.raises(UserError) as error:
        resolve(Choices(model="qwen3_1.8b", target="k8s", sets=("memory=64G",)), version="1")
    assert "kubernetes.memory" in error.value.hint


def test_a_site_that_is_for_both_schedulers_keeps_its_keys(tmp_path: Path) -> None:
    site = tmp_path / "both.yaml"
    site.write_text("summary: x\nsettings:\n  slurm:\n    partition: gpu\n")
    choices = Choices(model="qwen3_1.8b", target="k8s", run="demo", site=str(site))
    assert resolve(choices, version="1").spec.site.slurm.partition == "gpu"


def test_the_values_differ_from_the_defaults() -> None:
    for section in (Resources, Inputs):
        defaults = msgspec.to_builtins(section())
        # The model brings a tokenizer of its own.
        assert not [key for key in defaults if VALUES[key] == defaults[key] and key != "tokenizer"]
