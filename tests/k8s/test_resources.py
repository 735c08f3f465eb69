"""Where the API server keeps each kind of object."""

from __future__ import annotations

import pytest

from jobctl.k8s.resources import ALL_PODS, CONFIG_MAP, KINDS, NODE, POD, PYTORCHJOB, RUNTIME, Kind, kind_of


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (POD, "/api/v1/namespaces/ns/pods/x"),
        (CONFIG_MAP, "/api/v1/namespaces/ns/configmaps/x"),
        (PYTORCHJOB, "/apis/kubeflow.org/v1/namespaces/ns/pytorchjobs/x"),
    ],
)
def test_an_object_of_a_namespace(kind: Kind, path: str) -> None:
    assert kind.path("ns", "x") == path
    assert kind.path("ns") == path.removesuffix("/x")


def test_an_object_of_the_whole_cluster() -> None:
    assert NODE.path("", "n1") == "/api/v1/nodes/n1"
    assert ALL_PODS.path("ignored") == "/api/v1/pods"
    assert RUNTIME.path("").startswith("/apis/trainer.kubeflow.org/")


def test_the_kind_of_an_object_is_told_by_both_its_names() -> None:
    for kind in KINDS:
        assert kind_of({"apiVersion": kind.api_version, "kind": kind.name}) is kind


def test_no_two_kinds_share_a_place() -> None:
    places = [kind.path("ns") for kind in KINDS]

    assert len(set(places)) == len(places)
