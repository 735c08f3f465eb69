"""A run that this host reaches by other settings than those it was submitted with."""

from __future__ import annotations

from pathlib import Path

from jobctl.jobs.runs.places import at_site
from jobctl.jobs.runs.records import RunRecord
from jobctl.jobs.runs.store import Run
from tests.k8s.conftest import spec_of


def test_only_the_named_settings_change() -> None:
    run = Run("demo", Path("/workspace/runs/demo"), RunRecord(spec=spec_of()), ())
    there = at_site(run, context="elsewhere", namespace="lab")
    section = there.record.spec.site.kubernetes
    assert (section.context, section.namespace) == ("elsewhere", "lab")
    assert section.pvc == run.record.spec.site.kubernetes.pvc
    assert there.path == run.path
    assert run.record.spec.site.kubernetes.context == ""
