"""Which ConfigMaps are records of runs, and what is said where one is missing or broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.catalog.schema.kubernetes_section import KubernetesSection
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.k8s import config_maps, names
from jobctl.k8s.names import MANAGED_BY, RUN_ANNOTATION
from jobctl.k8s.resources import Object
from jobctl.k8s.target import PYTORCH
from tests.k8s.conftest import MakeCluster, apply, spec_of
from tests.k8s.server import ApiServer
from tests.k8s.test_verbs import FINISH, SMOKE, jobctl_says


def test_a_run_of_another_namespace_is_not_called_lost_with_advice_that_fails(
    server: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    assert jobctl_says(capfd, "submit", *SMOKE, "--run", "first")[0] == 0
    _, said, _ = jobctl_says(capfd, "status", "first", "--namespace", "nowhere")
    assert "namespace nowhere has no record of it" in said
    assert "jobctl resume" not in said


@pytest.mark.parametrize(
    "words",
    [
        ["logs", "first"],
        ["logs", "first", "-f"],
        ["logs", "first", "--all-ranks"],
        ["cancel", "first"],
        ["cancel", "first", "--force"],
        ["resume", "first"],
        ["shell", "first", "--", "true"],
        ["forward", "first"],
        ["forward", "first", "--to", "80"],
        ["collect", "first", "-o", "out"],
    ],
)
def test_each_verb_says_that_another_namespace_may_have_the_run(
    server: ApiServer, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert jobctl_says(capfd, "submit", *SMOKE, "--run", "first")[0] == 0
    at = words.index("--") if "--" in words else len(words)
    code, out, err = jobctl_says(capfd, *words[:at], "--namespace", "nowhere", *words[at:])
    assert (code, out) == (1, "")
    assert "namespace nowhere has no record of" in err
    assert "if another cluster or namespace has it: --context, --namespace" in err


def test_somebody_elses_config_map_is_no_run(server: ApiServer, capfd: pytest.CaptureFixture[str]) -> None:
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}, "data": {"a": "b"}}
    server.store.create("v1", "configmaps", "jobctl", theirs)
    stray = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"run.json": "{}"}}
    marks = {"annotations": {RUN_ANNOTATION: "../../x"}, "labels": {MANAGED_BY: "jobctl"}}
    server.store.create("v1", "configmaps", "jobctl", stray | {"metadata": {"name": "stray", **marks}})
    assert json.loads(jobctl_says(capfd, "list", "--target", "k8s", "--json")[1]) == []
    code, _, err = jobctl_says(capfd, "status", "theirs", "--target", "k8s")
    assert (code, "no run 'theirs'" in err) == (2, True)
    assert jobctl_says(capfd, "submit", *SMOKE, "--run", "theirs")[0] == 2


@pytest.mark.parametrize("said", ["[]", "{", '{"spec": 7}', "[" * 100_000])
def test_one_broken_record_ends_no_list(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str], said: str
) -> None:
    cluster(FINISH)
    jobctl_says(capfd, "submit", *SMOKE, "--run", "demo")
    jobctl_says(capfd, "wait", "demo")
    marks = {"annotations": {RUN_ANNOTATION: "bad"}, "labels": {MANAGED_BY: "jobctl"}}
    broken = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"run.json": said}}
    server.store.create("v1", "configmaps", "jobctl", broken | {"metadata": {"name": "bad", **marks}})
    code, out, err = jobctl_says(capfd, "list", "--target", "k8s", "--json")
    assert (code, [status["run"] for status in json.loads(out)]) == (0, ["demo"])
    assert "skipped: ConfigMap bad: not a run's record" in err
    code, _, err = jobctl_says(capfd, "status", "bad", "--target", "k8s")
    assert (code, "ConfigMap bad: not a run's record" in err) == (1, True)


def record_map(server: ApiServer, spec: JobSpec) -> Object:
    apply(PYTORCH, spec)
    thing = server.store.get("v1", "configmaps", "jobctl", names.job_name(spec))
    assert config_maps.is_record(thing)
    return dict(thing)


def test_a_run_is_reached_by_the_context_that_found_it(server: ApiServer) -> None:
    """Another host may call the cluster otherwise, and its record says the name of the host that submitted."""
    thing = record_map(server, spec_of("demo"))
    site = Site(kubernetes=KubernetesSection(context="here", namespace="jobctl"))
    run = config_maps.run_of(thing, site)
    assert run.record.spec.site.kubernetes.context == "here"
    assert (run.name, run.path) == ("demo", Path("/workspace/runs/demo"))


def test_a_job_on_a_checkpoint_has_the_name_of_its_run_and_step(server: ApiServer) -> None:
    thing = record_map(server, spec_of("demo", stage="eval"))
    assert config_maps.run_of(thing, spec_of().site).name == "demo:eval"


def test_the_server_says_when_a_run_was_submitted(server: ApiServer) -> None:
    thing = record_map(server, spec_of("demo"))
    thing["metadata"]["creationTimestamp"] = "2026-01-02T03:04:05Z"
    assert config_maps.run_of(thing, spec_of().site).record.submitted == "2026-01-02T03:04:05Z"


@pytest.mark.parametrize("run", ["", "../../x", ".hidden", "a/b"])
def test_a_map_whose_run_can_be_none_is_no_record(server: ApiServer, run: str) -> None:
    """Its name becomes a path on the volume and on this host."""
    thing = record_map(server, spec_of("demo"))
    thing["metadata"]["annotations"][names.RUN_ANNOTATION] = run
    assert not config_maps.is_record(thing)


def test_a_map_without_a_record_in_it_is_none(server: ApiServer) -> None:
    thing = record_map(server, spec_of("demo"))
    assert not config_maps.is_record({**thing, "data": None})
    assert not config_maps.is_record({**thing, "metadata": {"name": "demo"}})
