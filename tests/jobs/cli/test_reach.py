"""``jobctl shell`` and ``forward`` of a run on this host: they name the other way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.submission import submit
from tests.jobs.cli.test_cli import Invoke, jobctl

__all__ = ["jobctl"]


@pytest.mark.parametrize(
    ("verb", "problem", "hint"),
    [
        ("shell", "a job on local is not in a pod", "srun --jobid=JOB --overlap --pty bash"),
        ("forward", "the files of run 'here' are on this host", "runs/here/metrics/tensorboard"),
    ],
)
def test_on_a_target_without_pods_the_other_way_is_named(
    jobctl: Invoke, root: Path, job: Callable[..., JobSpec], verb: str, problem: str, hint: str
) -> None:
    submit(job("true", run="here"))
    code, _, err = jobctl(verb, "here")
    assert (code, problem in err, hint in err) == (2, True, True), err
