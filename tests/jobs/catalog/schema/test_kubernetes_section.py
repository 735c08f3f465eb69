"""Every key of ``kubernetes:`` reaches the manifest; the context says only which cluster gets it."""

from __future__ import annotations

from jobctl.jobs.catalog.schema import KEYS, KubernetesSection
from tests.jobs.catalog.schema.settings import keys_without_effect, rendered
from tests.k8s import test_settings as settings

VALUES = {
    key: value
    for key, value in settings.VALUES.items()
    if key.startswith("kubernetes.") and key != "kubernetes.context"
}
BESIDE = {"kubernetes.rdma_resource": "rdma/ib", "kubernetes.secret": "tokens", "kubernetes.queue": "another"}


def test_each_key_changes_the_manifest() -> None:
    assert keys_without_effect("k8s", VALUES, BESIDE) == []


def test_no_key_is_forgotten_here() -> None:
    keys = {key for key, kind in KEYS.items() if kind is KubernetesSection}
    assert keys == {*VALUES, "kubernetes.context"}


def test_the_context_is_not_written_into_the_manifest() -> None:
    assert rendered("k8s", {"kubernetes.context": "elsewhere"}) == rendered("k8s", {})
