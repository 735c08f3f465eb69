"""``jobctl list`` and ``status``: the facts of each run, and what a silent scheduler hides."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobctl.jobs.cli import finding, status
from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as runs
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.submission import submit
from tests.jobs.cli.test_cli import Invoke, jobctl

__all__ = ["jobctl"]

Job = Callable[..., JobSpec]


def finished(jobctl: Invoke, job: Job, name: str, **choices: object) -> Path:
    run, _ = submit(job("true", run=name, **choices))
    assert jobctl("wait", name)[0] == 0
    return run.path


def write_step(run: Path) -> None:
    layout.metrics_dir(run).mkdir()
    line = {"kind": "iteration", "iter": 5, "loss": 4.25}
    (layout.metrics_dir(run) / "run_20260101-000000-000.jsonl").write_text(json.dumps(line) + "\n")


def test_each_run_has_its_model_its_step_and_its_loss(jobctl: Invoke, root: Path, job: Job) -> None:
    write_step(finished(jobctl, job, "r"))
    (facts,) = json.loads(jobctl("list", "--json")[1])
    expected = {
        "kind": "train",
        "model": "qwen3_smoke",
        "stage": "train",
        "hardware": "cpu",
        "step": 5,
        "steps": 100,
        "loss": 4.25,
    }
    assert expected.items() <= facts.items()
    text = jobctl("list")[1]
    assert "5/100" in text
    assert "4.2500" in text

    out = jobctl("status", "r")[1]
    assert "step 5 of 100 (5%), loss 4.2500" in out
    assert json.loads(jobctl("status", "r", "--json")[1])["progress"]["step"] == 5


def test_a_list_can_be_narrowed(jobctl: Invoke, root: Path, job: Job) -> None:
    for name in ("a", "b"):
        finished(jobctl, job, name)
    finished(jobctl, job, "c", model="gpt2_smoke")

    def names(*words: str) -> list[str]:
        return [facts["run"] for facts in json.loads(jobctl("list", "--json", *words)[1])]

    assert names() == ["a", "b", "c"]
    assert names("--model", "gpt2_smoke") == ["c"]
    assert names("--newest", "2") == ["b", "c"]
    assert names("--state", "failed") == []
    assert "no run in this state" in jobctl("list", "--state", "failed")[1]


def test_a_scheduler_that_does_not_answer_hides_no_other_run(
    jobctl: Invoke, root: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(jobctl, job, "here")
    path = runs.claim(root, "there")
    runs.write_submission(path, job("true", run="there", target="slurm"), "#!/bin/bash\n")
    real = status.load_target

    def silent(group: object) -> None:
        raise UserError("squeue: Unable to contact slurm controller", code=1)

    def load(name: str) -> object:
        return SimpleNamespace(statuses=silent) if name == "slurm" else real(name)

    monkeypatch.setattr(status, "load_target", load)
    code, out, _ = jobctl("list", "--json")
    assert code == 0
    states = {facts["run"]: (facts["state"], facts["detail"]) for facts in json.loads(out)}
    assert states["here"][0] == "finished"
    assert states["there"] == ("unknown", "squeue: Unable to contact slurm controller")


def test_a_cluster_that_does_not_answer_hides_no_run_of_this_host(
    jobctl: Invoke, root: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(jobctl, job, "here")

    def silent() -> None:
        raise UserError("no answer from the cluster", code=1)

    store = SimpleNamespace(find_all=silent)
    monkeypatch.setattr(finding, "_cluster_site", lambda place: ("k8s", None))
    monkeypatch.setattr("jobctl.jobs.submission.load_store", lambda *_: store)

    code, out, err = jobctl("list", "--json")
    assert code == 0
    assert [facts["run"] for facts in json.loads(out)] == ["here"]
    assert "the list lacks the runs of the cluster: no answer from the cluster" in err

    code, _, err = jobctl("list", "--target", "k8s")
    assert code == 1
    assert "no answer from the cluster" in err
