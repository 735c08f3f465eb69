"""Which run a verb is about: this host's record, or the cluster that the user names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs.cli.finding import Place, find_pipeline, find_run, find_runs, pipeline_runs
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import pipeline
from jobctl.jobs.spec.job_spec import JobSpec
from tests.jobs.cli.recorded import recorded

Job = Callable[..., JobSpec]


def test_a_place_names_the_keys_that_the_user_gave() -> None:
    place = Place(context="ours", namespace="team")
    assert place.named == {"context": "ours", "namespace": "team"}
    assert place.keys == {"kubernetes.context": "ours", "kubernetes.namespace": "team"}
    assert Place().keys == {}


def test_a_run_of_this_root_is_read_from_its_directory(root: Path, job: Job) -> None:
    recorded(root, job("true", run="mine"))
    assert find_run("mine", Place()).path == root / "runs/mine"
    with pytest.raises(UserError, match="did you mean 'mine'"):
        find_run("mind", Place())


def test_a_run_of_another_target_is_not_the_one_that_is_asked_for(root: Path, job: Job) -> None:
    recorded(root, job("true", run="mine"))
    with pytest.raises(UserError, match="run 'mine' is on target local, not slurm"):
        find_run("mine", Place(target="slurm"))


def test_another_namespace_is_where_a_recorded_run_is_asked_for(root: Path, job: Job) -> None:
    recorded(root, job("true", run="mine", target="k8s"))
    site = find_run("mine", Place()).record.spec.site.kubernetes
    assert site.namespace == "jobctl"
    moved = find_run("mine", Place(namespace="team", context="two")).record.spec.site.kubernetes
    assert (moved.namespace, moved.context) == ("team", "two")


def test_a_target_limits_the_list(root: Path, job: Job) -> None:
    recorded(root, job("true", run="a"))
    recorded(root, job("true", run="b", target="slurm"))
    assert [run.name for run in find_runs(Place())] == ["a", "b"]
    assert [run.name for run in find_runs(Place(target="slurm"))] == ["b"]


def test_a_run_that_cannot_be_read_is_named_and_the_rest_is_listed(
    root: Path, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(root, job("true", run="good"))
    recorded(root, job("true", run="bad"))
    (root / "runs/bad/run.json").write_text("{")
    assert [run.name for run in find_runs(Place())] == ["good"]
    assert "skipped: " in capsys.readouterr().err


def test_the_runs_of_a_pipeline_are_those_that_were_submitted(root: Path, job: Job) -> None:
    pipeline.write(root, pipeline.plan("p"))
    planned = find_pipeline("p", Place())
    assert planned is not None
    assert pipeline_runs(planned, Place()) == []
    recorded(root, job("true", run="p-train"))
    assert [run.name for run in pipeline_runs(planned, Place())] == ["p-train"]
    assert find_pipeline("q", Place()) is None
