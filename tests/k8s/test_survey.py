"""What a cluster has of the names in a site file, as far as the user may see it."""

from __future__ import annotations

import pytest
import yaml

from jobctl.jobs.catalog.schema import KubernetesSection, Site
from jobctl.k8s.api import Api
from jobctl.k8s.survey import survey
from tests.k8s.server import ApiServer
from tests.k8s.test_verbs import jobctl_says

SITE = Site(kubernetes=KubernetesSection(namespace="jobctl"))


def test_claims_queues_and_gpus_are_named(server: ApiServer) -> None:
    seen = {("", "persistentvolumeclaims", "list"), ("kueue.x-k8s.io", "localqueues", "list")}
    server.rights = server.rights | seen
    server.cluster_rights = server.cluster_rights | {("", "nodes", "list")}
    labels = {"nvidia.com/gpu.product": "NVIDIA-H200"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": labels}}
    server.store.create("v1", "nodes", "", node)
    known = {offer.key: offer for offer in survey(Api(), SITE).offers}
    assert known["kubernetes.pvc"].chosen == "jobctl-workspace"
    assert known["kubernetes.queue"].chosen == "research"
    assert known["kubernetes.gpu_product"].values == ("NVIDIA-H200",)


def test_what_may_not_be_seen_is_a_note(server: ApiServer) -> None:
    server.rights = {right for right in server.rights if right[1] != "persistentvolumeclaims"}
    answer = survey(Api(), SITE)
    assert "kubernetes.pvc" not in {offer.key for offer in answer.offers}, "unknown is not none"
    assert any("persistentvolumeclaims of namespace jobctl cannot be listed" in note for note in answer.notes)


def test_with_the_shipped_rights_the_names_of_the_site_are_looked_up(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ("site", "check", "--target", "k8s", "--namespace", "jobctl")
    code, out, _ = jobctl_says(capfd, *words)
    assert code == 0
    assert out.splitlines()[1].split() == ["kubernetes.pvc", "jobctl-workspace", "ok"]
    server.store.delete("v1", "persistentvolumeclaims", "jobctl", "jobctl-workspace")
    assert jobctl_says(capfd, *words)[0] == 1


def test_a_new_site_file_is_one_that_jobctl_takes(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = jobctl_says(capfd, "site", "new", "--target", "k8s", "--namespace", "jobctl")
    assert code == 0
    assert yaml.safe_load(out)["settings"]["kubernetes"]["namespace"] == "jobctl"
    (server.folder / "site.yaml").write_text(out)
    words = ("--target", "k8s", "--site", str(server.folder / "site.yaml"))
    assert jobctl_says(capfd, "render", "--model", "qwen3_smoke", *words)[0] == 0
