"""The login node of a site: read by jobctl, and by nothing that a run is."""

from __future__ import annotations

from jobctl.jobs.catalog.schema import LoginSection
from jobctl.jobs.spec.resolution import Choices, resolve


def test_it_does_not_change_what_a_run_is() -> None:
    choices = Choices(model="qwen3_smoke", target="slurm")
    away = Choices(model="qwen3_smoke", target="slurm", sets=("login.host=me@lab", "login.jobctl=/x/jobctl"))
    here, there = (resolve(one, version="t").spec for one in (choices, away))
    assert there.site.login == LoginSection(host="me@lab", jobctl="/x/jobctl")
    assert here.fingerprint() == there.fingerprint()
    assert b"login" not in here.json()
