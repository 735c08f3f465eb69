"""The schemas refuse what a strict server refuses: each field of each object of ours is changed, and that is seen."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.k8s.target import PYTORCH, TRAIN
from tests.k8s import operators, webhooks
from tests.k8s.conftest import MANIFESTS, spec_of
from tests.k8s.schemas import KINDS, METADATA, problems

Path = tuple[Any, ...]
FREE = {
    "annotations", "labels", "matchLabels", "nodeSelector", "requests", "limits", "minResources", "pytorchReplicaSpecs",
}  # fmt: skip
"""Mappings whose keys anybody chooses; the names of replicas are the webhook's matter."""
NUMBERS_OR_TEXTS = {"requests", "limits", "minResources", "nominalQuota", "sizeLimit"}
"""Amounts, which are both."""
VOLCANO = {"podGroupPolicy": {"volcano": {"networkTopology": {"mode": "hard", "highestTierAllowed": 1}}}}


def manifests(folder: str) -> list[dict[str, Any]]:
    files = sorted((MANIFESTS / folder).glob("*.yaml"))
    things = [thing for file in files for thing in yaml.safe_load_all(file.read_text())]
    return [thing for thing in things if f"{thing['apiVersion']} {thing['kind']}" in KINDS]


def rendered(target: str) -> dict[str, Any]:
    """A job with all that ours ever have: RDMA, Secrets, tolerations, node rules, topology."""
    named = {
        "nodes": 2, "kubernetes.rdma_resource": "rdma/ib", "exclude": "node-7", "kubernetes.secret": "tokens",
        "kubernetes.node_selector": {"pool": "train"}, "kubernetes.tolerations": ("nvidia.com/gpu",),
        "kubernetes.queue": "research", "kubernetes.topology_required": "rack", "kubernetes.run_as_user": 1000,
        "kubernetes.pull_secret": "registry", "container.mounts": ("/nvme:/scratch", "claim:/data:ro"),
    }  # fmt: skip
    choices = Choices(model="qwen3_1.8b", hardware="h100", target=target, run="demo", named=named)
    text = {"k8s": PYTORCH, "k8s-trainjob": TRAIN}[target].render(resolve(choices, version="1").spec)
    job: dict[str, Any] = list(yaml.load_all(text, Loader=yaml.CSafeLoader))[1]
    return job


def prep() -> dict[str, Any]:
    spec = spec_of(kind="prep", model="", stage="train", named={"processes_per_node": 0})
    job: dict[str, Any] = list(yaml.safe_load_all(PYTORCH.render(spec)))[1]
    return job


(RUNTIME,) = manifests("trainer-v2")
GANG_RUNTIME = {**RUNTIME, "spec": {**RUNTIME["spec"], **VOLCANO}}
PYTORCHJOB = rendered("k8s")
TRAINJOB = rendered("k8s-trainjob")
OBJECTS = [
    PYTORCHJOB,
    TRAINJOB,
    prep(),
    RUNTIME,
    GANG_RUNTIME,
    operators.jobset_of(TRAINJOB, RUNTIME),
    operators.podgroup_of(PYTORCHJOB),
    operators.podgroup_of(TRAINJOB, GANG_RUNTIME),
    *manifests("kueue"),
]
each_object = pytest.mark.parametrize("thing", OBJECTS, ids=lambda thing: str(thing["kind"]))


def places(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value in an object, with where it stands; of equal elements of a list the first alone."""
    yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


def changed(thing: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """A copy with another value at ``path``."""
    result = copy.deepcopy(thing)
    place: Any = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return result


def is_refused(thing: dict[str, Any], path: Path, value: Any, sort: str) -> bool:
    return sort in {problem.what for problem in problems(changed(thing, path, value))}


@each_object
def test_it_is_valid_as_it_is(thing: dict[str, Any]) -> None:
    assert problems(thing) == []


@each_object
def test_a_field_that_nobody_knows_is_refused_everywhere(thing: dict[str, Any]) -> None:
    taken = [
        path
        for path, value in places(thing)
        if isinstance(value, dict) and path and path[-1] not in FREE
        if not is_refused(thing, path, {**value, "mutant": 1}, "unknown")
    ]
    assert taken == []


@each_object
def test_a_value_of_another_type_is_refused_everywhere(thing: dict[str, Any]) -> None:
    """What has a form of its own, such as metadata, is checked one level below."""
    taken = []
    for path, value in places(thing):
        if not path or "metadata" in path or path[0] in ("apiVersion", "kind"):
            continue

        wrong: list[Any] = (
            [[{}]] if isinstance(value, dict) else ["text"] if isinstance(value, list) else [{}]
        )
        if isinstance(value, str) and not NUMBERS_OR_TEXTS & set(path):
            wrong.append(3)
        if isinstance(value, int):
            wrong.append("text")
        taken += [(path, each) for each in wrong if not is_refused(thing, path, each, "type")]
    integers_or_amounts = [path for path, each in taken if each == "text" and NUMBERS_OR_TEXTS & set(path)]
    assert [path for path, _ in taken] == integers_or_amounts


def schema_of(thing: dict[str, Any], path: Path) -> dict[str, Any]:
    """The schema of the value at ``path``."""
    from tests.k8s.schemas import DEFINITIONS

    schema = KINDS[f"{thing['apiVersion']} {thing['kind']}"]
    for key in path:
        schema = DEFINITIONS.get(schema.get("$ref", ""), schema)
        rest = schema.get("additionalProperties")
        step = schema.get("items") if isinstance(key, int) else schema.get("properties", {}).get(key, rest)
        schema = step if isinstance(step, dict) else {}
    found: dict[str, Any] = DEFINITIONS.get(schema.get("$ref", ""), schema)
    return found


@each_object
def test_a_required_field_is_missed_everywhere(thing: dict[str, Any]) -> None:
    taken, asked = [], 0
    for path, value in places(thing):
        for name in schema_of(thing, path).get("required", ()):
            asked += 1
            rest = {key: item for key, item in value.items() if key != name}
            if path and not is_refused(thing, path, rest, "required"):
                taken.append((*path, name))
    assert taken == []
    assert asked or thing["kind"] in ("LocalQueue", "PodGroup", "ResourceFlavor")


@each_object
def test_a_word_of_no_list_and_an_amount_of_no_form_are_refused(thing: dict[str, Any]) -> None:
    bounded = [path for path, _ in places(thing) if {"enum", "pattern"} & schema_of(thing, path).keys()]
    assert [path for path in bounded if not is_refused(thing, path, "no such word!", "value")] == []


def test_words_and_amounts_are_bounded_at_all() -> None:
    kinds = [
        thing["kind"] for thing in OBJECTS for path, _ in places(thing) if "enum" in schema_of(thing, path)
    ]
    assert {"JobSet", "ClusterTrainingRuntime", "PodGroup"} <= set(kinds)
    queue = next(thing for thing in OBJECTS if thing["kind"] == "ClusterQueue")
    path = ("spec", "resourceGroups", 0, "flavors", 0, "resources", 0, "nominalQuota")
    assert is_refused(queue, path, "1024 cores", "value")
    assert is_refused(queue, ("spec", "stopPolicy"), "Stop", "value")


def test_metadata_has_no_other_fields() -> None:
    assert is_refused(PYTORCHJOB, ("metadata", "nickname"), "x", "unknown")
    assert not is_refused(PYTORCHJOB, ("metadata", next(iter(METADATA))), "x", "unknown")


# ---- gangs


@pytest.mark.parametrize("nodes", [1, 2, 1000])
def test_all_pods_of_a_job_are_one_gang(nodes: int) -> None:
    job = list(yaml.safe_load_all(PYTORCH.render(spec_of(nodes=nodes))))[1]
    group = operators.podgroup_of(job)
    assert group is not None
    assert group["spec"]["minMember"] == nodes
    train = list(yaml.safe_load_all(TRAIN.render(spec_of(target="k8s-trainjob", nodes=nodes))))[1]
    assert operators.podgroup_of(train, RUNTIME) is None, "Kueue makes its gangs, or another runtime does"
    group = operators.podgroup_of(train, GANG_RUNTIME)
    assert group is not None
    assert group["spec"]["minMember"] == nodes


def kueues_sets(job: dict[str, Any]) -> tuple[list[dict[str, str]], list[int]]:
    """The annotations and the count of each set of pods that Kueue sees in a job."""
    if job["kind"] == "PyTorchJob":
        specs = job["spec"]["pytorchReplicaSpecs"].values()
        pairs = [(spec["template"], spec["replicas"]) for spec in specs]
    else:
        (each,) = operators.jobset_of(job, RUNTIME)["spec"]["replicatedJobs"]
        pairs = [(each["template"]["spec"]["template"], each["template"]["spec"]["parallelism"])]
    return [template["metadata"]["annotations"] for template, _ in pairs], [count for _, count in pairs]


@pytest.mark.parametrize("target", ["k8s", "k8s-trainjob"])
@pytest.mark.parametrize("how", ["required", "preferred"])
@pytest.mark.parametrize("nodes", [1, 2, 9])
def test_kueue_takes_the_topology_that_a_job_asks_for(target: str, how: str, nodes: int) -> None:
    named = {f"kubernetes.topology_{how}": "cloud/rack", "kubernetes.queue": "research"}
    render = {"k8s": PYTORCH, "k8s-trainjob": TRAIN}[target].render
    job = list(yaml.safe_load_all(render(spec_of(target=target, nodes=nodes, named=named))))[1]
    annotations, counts = kueues_sets(job)
    assert list(webhooks.podsets(annotations, counts)) == []
    assert sum(counts) == nodes
    assert all(said[f"kueue.x-k8s.io/podset-{how}-topology"] == "cloud/rack" for said in annotations)
    assert len({said.get("kueue.x-k8s.io/podset-group-name") for said in annotations}) == 1


@pytest.mark.parametrize(
    ("annotations", "counts", "words"),
    [
        ([{"required": "a", "preferred": "b"}], [1], "more than one topology"),
        ([{"required": "a", "group": "g"}], [1], "exactly 2 pod sets"),
        ([{"required": "a", "group": "g"}] * 2, [2, 2], "has only 1 replica"),
        ([{"required": "a", "group": "g"}, {"required": "b", "group": "g"}], [1, 2], "the same topology"),
        ([{"group": "g"}] * 2, [1, 2], "neither a preferred nor a required"),
    ],
)
def test_kueues_rules_can_refuse(annotations: list[dict[str, str]], counts: list[int], words: str) -> None:
    names = {"group": "kueue.x-k8s.io/podset-group-name"}
    full = [
        {names.get(key, f"kueue.x-k8s.io/podset-{key}-topology"): value for key, value in each.items()}
        for each in annotations
    ]
    assert words in next(webhooks.podsets(full, counts))


def test_the_rules_of_a_runtime_and_of_a_name_hold_for_ours_and_can_refuse() -> None:
    assert [*webhooks.runtime(RUNTIME), *webhooks.runtime(GANG_RUNTIME)] == []
    both = changed(RUNTIME, ("spec", "mlPolicy", "mpi"), {})
    assert list(webhooks.runtime(both)) == ["Only one of the policy can be configured"]
    jobset = {**RUNTIME["spec"]["template"]["spec"], "startupPolicy": {"startupPolicyOrder": "InOrder"}}
    jobset["replicatedJobs"] = [{**jobset["replicatedJobs"][0], "dependsOn": []}]
    ordered = changed(RUNTIME, ("spec", "template", "spec"), jobset)
    assert "mutually exclusive" in next(webhooks.runtime(ordered))
    for name in ("1a", "a.b", "a" * 64):
        assert list(webhooks.trainjob(changed(TRAINJOB, ("metadata", "name"), name), {"jobctl": RUNTIME}))


def test_the_rules_of_queues_hold_for_ours_and_can_refuse() -> None:
    queue = next(thing for thing in OBJECTS if thing["kind"] == "ClusterQueue")
    flavor = next(thing for thing in OBJECTS if thing["kind"] == "ResourceFlavor")
    assert [*webhooks.clusterqueue(queue), *webhooks.resourceflavor(flavor)] == []
    group = ("spec", "resourceGroups", 0)
    fewer = changed(queue, (*group, "coveredResources"), ["cpu", "memory"])
    assert "same number of resources" in next(webhooks.clusterqueue(fewer))
    limited = changed(queue, (*group, "flavors", 0, "resources", 0, "borrowingLimit"), 5)
    assert "borrowingLimit" in next(webhooks.clusterqueue(limited))
    near = changed(flavor, ("spec", "topologyName"), "default")
    assert "nodeLabel is required" in next(webhooks.resourceflavor(near))
