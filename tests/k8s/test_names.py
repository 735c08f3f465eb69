"""Names of objects: no two jobs share one, and nothing is replaced that was made for another job."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobctl.jobs import kinds
from jobctl.jobs.core.errors import UserError
from jobctl.k8s import names
from jobctl.k8s.target import PYTORCH
from tests.k8s.conftest import MakeCluster, apply, spec_of
from tests.k8s.server import ApiServer
from tests.k8s.test_verbs import SMOKE, UNTIL_STOP, jobctl_says, until

RUN = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True)
JOB = st.builds(kinds.job_name, RUN, st.sampled_from(["train", "eval", "export"]))


@given(JOB)
def test_any_jobs_name_becomes_an_objects_name(job: str) -> None:
    name = names.object_name(job)
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(f"{name}-worker-9999") <= 63


@given(JOB, JOB)
def test_different_jobs_have_different_objects(one: str, other: str) -> None:
    assert (names.object_name(one) == names.object_name(other)) == (one == other)


def test_no_run_has_the_name_of_another_runs_step() -> None:
    runs = ["x", "x-eval", "x--eval", "X", "x_eval", "x.eval", "a" * 45, "a" * 46, "1a", "run-1a"]
    jobs = [kinds.job_name(run, kind) for run, kind in itertools.product(runs, ["train", "eval", "export"])]
    made = [names.object_name(job) for job in jobs]
    # A run may be called as the name that was made for another one.
    jobs += made
    assert len({names.object_name(job) for job in dict.fromkeys(jobs)}) == len(dict.fromkeys(jobs))


def test_an_evaluation_of_x_leaves_the_run_x_eval_alone(
    server: ApiServer, cluster: MakeCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster(f"[[ $* != *--eval_only=True* ]] || exit 0; {UNTIL_STOP}")
    words = [word for word in SMOKE if word not in ("--stage", "smoke")]
    for run in ("x", "x-eval"):
        jobctl_says(capfd, "submit", *words, "--run", run)
    until(lambda: "x-eval: running" in jobctl_says(capfd, "status", "x-eval")[1])
    before = server.store.get("kubeflow.org/v1", "pytorchjobs", "jobctl", "x-eval")["metadata"]["uid"]
    assert jobctl_says(capfd, "submit", "eval", *words, "--run", "x")[0] == 0
    assert jobctl_says(capfd, "wait", "x:eval")[0] == 0
    after = server.store.get("kubeflow.org/v1", "pytorchjobs", "jobctl", "x-eval")["metadata"]["uid"]
    assert before == after
    assert "x-eval: running" in jobctl_says(capfd, "status", "x-eval")[1]


@pytest.mark.parametrize("kind", ["configmaps", "pytorchjobs"])
def test_an_object_of_our_name_that_is_somebody_elses_is_not_replaced(server: ApiServer, kind: str) -> None:
    spec = spec_of("demo", kind="eval", stage=None)
    apply(PYTORCH, spec)
    key = next(key for key in server.store.objects if key[1] == kind)
    theirs = server.store.objects[key]
    theirs["metadata"]["annotations"] = {}
    theirs["metadata"]["labels"] = {}
    theirs["status"] = {"conditions": [{"type": "Succeeded", "status": "True"}]}
    with pytest.raises(UserError, match="was made for somebody else"):
        apply(PYTORCH, spec)
    assert server.store.objects[key]["metadata"]["uid"] == theirs["metadata"]["uid"]
    assert not server.store.objects[key]["metadata"]["labels"]


@pytest.mark.parametrize("job", ["demo", "demo:eval", "Strange Name"])
def test_an_object_says_the_name_that_its_job_has_for_a_user(job: str) -> None:
    run, step = kinds.split_name(job)
    labels = {names.COMPONENT: step or "train", **names.selector(run)}
    thing = {
        "metadata": {
            "name": names.object_name(job),
            "labels": labels,
            "annotations": {names.RUN_ANNOTATION: run},
        }
    }
    assert names.job_of(thing) == job
