"""Where runs stand, in words: one target that is silent hides no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobctl.jobs.cli import status as module
from jobctl.jobs.cli.status import describe_status, pipeline_table, statuses
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.pipeline import plan
from jobctl.jobs.runs.store import Run, Status
from jobctl.jobs.spec.job_spec import JobSpec
from tests.jobs.cli.recorded import recorded
from tests.jobs.cli.test_cli import Invoke, jobctl

__all__ = ["jobctl"]

Job = Callable[..., JobSpec]


def status(**fields: Any) -> Status:
    return Status(**{"run": "r", "state": "running", "target": "slurm", **fields})


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "r: running"),
        ({"attempt": 2}, "r: running, attempt 2"),
        ({"job_id": "7"}, "r: running, job 7 on slurm"),
        (
            {"attempt": 1, "job_id": "7", "nodes": "n[1-2]"},
            "r: running, attempt 1, job 7 on slurm, n[1-2]",
        ),
        ({"state": "failed", "detail": "exit code 3"}, "r: failed\n  exit code 3"),
    ],
    ids=str,
)
def test_a_status_has_the_words_that_are_known(fields: dict[str, Any], text: str) -> None:
    assert describe_status(status(**fields)) == text


def test_a_pipeline_has_a_line_for_each_step_also_for_those_to_come() -> None:
    pipeline = plan("p", skip=("mirror", "preflight"))
    known = [
        status(run="p-tokenizer", state="finished", job_id="1"),
        status(run="p-prep", state="failed", job_id="2", detail="exit code 3\nmore"),
    ]
    lines = pipeline_table(pipeline, known).splitlines()
    rows = [line.split() for line in lines[1:]]
    assert rows[0] == ["tokenizer", "p-tokenizer", "finished", "1"]
    assert rows[1] == ["prep", "p-prep", "failed", "2", "exit", "code", "3", "…"]
    assert [row[2:] for row in rows[2:]] == [["-", "not", "submitted"]] * 3


class Silent:
    """A scheduler that does not answer."""

    def statuses(self, _: object) -> list[Status]:
        raise UserError("slurmctld does not answer")


def test_runs_of_a_target_that_answers_are_known_beside_one_that_does_not(
    root: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = recorded(root, job("true", run="here"))
    spec = msgspec.structs.replace(first.record.spec, target="slurm")
    cluster = Run("there", first.path, msgspec.structs.replace(first.record, spec=spec), ())
    load = module.load_target
    monkeypatch.setattr(module, "load_target", lambda name: Silent() if name == "slurm" else load(name))
    answers = statuses([cluster, first])
    assert [answer.run for answer in answers] == ["there", "here"]
    assert answers[0].state == "unknown"
    assert "slurmctld does not answer" in answers[0].detail
    assert answers[1].state != "unknown"


def test_an_unknown_run_gets_the_nearest_name(jobctl: Invoke, root: Path, job: Job) -> None:
    recorded(root, job("true", run="alpha"))
    code, _, err = jobctl("status", "alpa")
    assert code == 2
    assert "did you mean 'alpha'?" in err
