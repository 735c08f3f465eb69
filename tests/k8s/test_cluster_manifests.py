"""k8s/manifests: what a cluster needs once agrees with what the rendered objects and the client use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from jobctl.jobs.catalog.schema.job import Resources
from jobctl.jobs.catalog.schema.kubernetes_section import KubernetesSection
from jobctl.jobs.catalog.schema.site import Site
from jobctl.jobs.core import exit_codes
from jobctl.jobs.targets.registry import load_target
from jobctl.k8s import manifest, placement
from jobctl.k8s.api import Api
from jobctl.k8s.names import COMPONENT, MANAGED_BY
from jobctl.k8s.resources import NODE, POD
from jobctl.k8s.target import PYTORCH
from tests.k8s.conftest import MakeCluster, granted, spec_of
from tests.k8s.schemas import KINDS, problems
from tests.k8s.server import ApiServer, Fault
from tests.k8s.test_verbs import SMOKE, jobctl_says, until

FOLDER = Path(manifest.__file__).parent / "manifests"
KUSTOMIZATIONS = sorted(FOLDER.rglob("kustomization.yaml"))


def objects(kustomization: Path) -> list[dict[str, Any]]:
    listed = yaml.safe_load(kustomization.read_text())["resources"]
    return [
        thing for name in listed for thing in yaml.safe_load_all((kustomization.parent / name).read_text())
    ]


ALL = [thing for path in KUSTOMIZATIONS for thing in objects(path)]


def one(kind: str) -> dict[str, Any]:
    return next(thing for thing in ALL if thing["kind"] == kind)


def policy_called(name: str) -> dict[str, Any]:
    (policy,) = [t for t in ALL if (t["kind"], t["metadata"]["name"]) == ("NetworkPolicy", name)]
    spec: dict[str, Any] = policy["spec"]
    return spec


@pytest.mark.parametrize("thing", ALL, ids=lambda thing: thing["kind"])
def test_it_is_valid_where_we_have_the_schema(thing: dict[str, Any]) -> None:
    if f"{thing['apiVersion']} {thing['kind']}" in KINDS:
        assert problems(thing) == []


def test_every_file_is_in_a_kustomization() -> None:
    listed = {
        path.parent / name
        for path in KUSTOMIZATIONS
        for name in yaml.safe_load(path.read_text())["resources"]
    }
    assert listed | set(KUSTOMIZATIONS) == set(FOLDER.rglob("*.yaml"))


def test_names_are_the_sites_defaults() -> None:
    site = Site()
    assert one("Namespace")["metadata"]["name"] == site.kubernetes.namespace
    assert one("PersistentVolumeClaim")["metadata"]["name"] == site.kubernetes.pvc


def test_the_role_grants_what_the_verbs_use_and_nothing_else(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The test server refuses what the role does not grant; so here is what it grants in vain."""
    cluster('[ "$attempt" = 2 ] && exit 0; until [ -e "$run_dir/STOP" ]; do sleep 0.05; done; exit 200')
    for target in ("k8s", "k8s-trainjob"):
        _use_all_verbs(capfd, target, tmp_path / target)
    server.faults = [Fault(lambda method, path: method == "PATCH" and "dryRun" not in path, status=403)]
    jobctl_says(capfd, "submit", *SMOKE, "--run", "refused")  # takes its record away again
    jobctl_says(capfd, "nodes", "--target", "k8s")
    PYTORCH.examine(Site(kubernetes=KubernetesSection(queue="research")), Resources(nodes=2))
    Api().get(NODE, "", "n1")  # what status asks when a pod does not end
    assert (server.rights | server.cluster_rights) - server.used == set()


def _use_all_verbs(capfd: pytest.CaptureFixture[str], target: str, out: Path) -> None:
    jobctl_says(capfd, "submit", *SMOKE, "--target", target, "--run", target)
    until(lambda: "running" in jobctl_says(capfd, "status", target)[1])
    watch(target)  # what wait does until the job changes
    reach_port(target)
    jobctl_says(capfd, "cancel", target, "--graceful")
    jobctl_says(capfd, "wait", target)
    jobctl_says(capfd, "resume", target)
    jobctl_says(capfd, "wait", target)
    jobctl_says(capfd, "logs", target)
    jobctl_says(capfd, "collect", target, "-o", str(out))
    jobctl_says(capfd, "list", "--target", target)
    prep = ["prep", "--dataset", "sotu", "--tokenizer", "gpt2", "--target", target, "--run", f"{target}-prep"]
    jobctl_says(capfd, "submit", *prep)
    jobctl_says(capfd, "wait", f"{target}-prep", "--timeout", "1")
    jobctl_says(capfd, "cancel", f"{target}-prep")
    jobctl_says(
        capfd, "submit", *SMOKE, "--target", target, "--run", f"{target}-queued", "--set", "queue=research"
    )
    jobctl_says(capfd, "status", f"{target}-queued")


def watch(target: str) -> None:
    store = load_target(target).store(Site(), Path("/no/home"))
    run = store.find(target)
    assert run is not None
    store.await_change(run, seconds=0.0)


def reach_port(target: str) -> None:
    """As forward does for each connection."""
    api = Api()
    (pod,) = api.list_all(POD, "jobctl", labelSelector=f"app.kubernetes.io/instance={target}")
    api.forward("jobctl", pod["metadata"]["name"], 1).close()


def test_the_role_names_each_right() -> None:
    assert not {word for right in granted() | granted("ClusterRole") for word in right} & {
        "*",
        "secrets",
        "deletecollection",
    }


def test_the_queue_admits_what_the_pods_ask_for() -> None:
    """A LocalQueue without its ClusterQueue admits nothing, and one without flavors neither."""
    queue = one("LocalQueue")
    cluster_queue = one("ClusterQueue")
    assert queue["spec"]["clusterQueue"] == cluster_queue["metadata"]["name"]
    labels = cluster_queue["spec"]["namespaceSelector"]["matchLabels"]
    assert labels == {"kubernetes.io/metadata.name": queue["metadata"]["namespace"]}
    (group,) = cluster_queue["spec"]["resourceGroups"]
    (flavor,) = group["flavors"]
    assert flavor["name"] == one("ResourceFlavor")["metadata"]["name"]
    assert [each["name"] for each in flavor["resources"]] == group["coveredResources"]
    assert set(placement.requests(spec_of(hardware="h100", named={"gpus_per_node": 8}))) <= set(
        group["coveredResources"]
    )


def test_a_job_is_started_again_for_the_same_codes_everywhere() -> None:
    job = one("ClusterTrainingRuntime")["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert tuple(rule["onExitCodes"]["values"]) == exit_codes.STARTED_AGAIN
    container = job["template"]["spec"]["containers"][0]
    (rule,) = container["restartPolicyRules"]
    assert tuple(rule["exitCodes"]["values"]) == exit_codes.STARTED_IN_PLACE
    assert container["restartPolicy"] == "Never", "the API wants it said where there are rules"


def test_pods_talk_to_each_other_to_dns_and_to_storage_and_to_nobody_else() -> None:
    policy = policy_called("jobctl")
    ours = {"matchLabels": {MANAGED_BY: "jobctl"}}
    assert policy["podSelector"] == ours
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"from": [{"podSelector": ours}]}]
    pods, dns, storage = policy["egress"]
    assert pods == {"to": [{"podSelector": ours}]}
    assert {port["port"] for port in dns["ports"]} == {53}
    assert {port["port"] for port in storage["ports"]} == {2049}


def test_only_who_fetches_may_be_let_out() -> None:
    (rule,) = policy_called("jobctl-hub")["podSelector"]["matchExpressions"]
    assert rule == {"key": COMPONENT, "operator": "In", "values": ["tokenizer", "mirror", "prep"]}


def test_the_runtime_stops_pods_as_ours_do_and_never_retries_a_wrong_configuration() -> None:
    job = one("ClusterTrainingRuntime")["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["operator"]) == ("FailJob", "NotIn")
    assert 200 in rule["onExitCodes"]["values"]
    assert not {1, 2} & set(rule["onExitCodes"]["values"])
    container = job["template"]["spec"]["containers"][0]
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["bash", f"{manifest.JOB_FILES}/stop"]
