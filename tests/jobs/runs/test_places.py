"""A run that this host reaches by other settings than those it was submitted with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.places import at_site, check_place
from jobctl.jobs.runs.records import RunRecord
from jobctl.jobs.runs.store import Run
from jobctl.jobs.spec.job_spec import JobSpec
from tests.jobs.cli.recorded import recorded
from tests.k8s.conftest import spec_of

Job = Callable[..., JobSpec]


def test_only_the_named_settings_change() -> None:
    run = Run("demo", Path("/workspace/runs/demo"), RunRecord(spec=spec_of()), ())
    there = at_site(run, context="elsewhere", namespace="lab")
    section = there.record.spec.site.kubernetes
    assert (section.context, section.namespace) == ("elsewhere", "lab")
    assert section.pvc == run.record.spec.site.kubernetes.pvc
    assert there.path == run.path
    assert run.record.spec.site.kubernetes.context == ""


def test_a_copied_and_a_renamed_directory_are_not_the_run_of_their_record(root: Path, job: Job) -> None:
    """Their scripts would write into the directory of the original, or make it anew."""
    run = recorded(root, job("true", run="a"))
    check_place(run)
    copy = layout.run_dir(root, "copy")
    shutil.copytree(run.path, copy)
    with pytest.raises(UserError, match=r"copied or renamed: its job would write into .*/runs/a"):
        check_place(runs.read(root, "copy"))

    shutil.rmtree(run.path)
    with pytest.raises(UserError, match="copied or renamed"):
        check_place(runs.read(root, "copy"))


def test_a_root_that_is_mounted_elsewhere_is_no_other_place(root: Path, job: Job) -> None:
    run = recorded(root, job("true", run="a"))
    moved = root.with_name("mounted")
    root.rename(moved)
    check_place(runs.read(moved, "a"))
    root.symlink_to(moved)
    check_place(runs.read(moved, "a"))
    assert run.path.is_dir()
