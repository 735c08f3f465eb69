"""A key that only another scheduler reads is refused where a user asks for it, and taken from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.foreign import refuse_foreign
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.jobs.targets.registry import target_entry


@pytest.mark.parametrize(
    ("target", "text", "key"),
    [
        ("slurm", "kubernetes.queue=research", "kubernetes.queue"),
        ("slurm", "queue=research", "kubernetes.queue"),
        ("k8s", "slurm.partition=gpu", "slurm.partition"),
        ("k8s-trainjob", "slurm.options.hint=x", "slurm.options"),
    ],
)
def test_the_refusal_names_the_target_and_the_key(target: str, text: str, key: str) -> None:
    with pytest.raises(UserError) as raised:
        refuse_foreign((text,), target_entry(target))

    assert f"--set {text}: target {target} does not read {key}" in raised.value.message


def test_what_takes_its_place_is_said() -> None:
    instead = target_entry("k8s").instead
    key = next(iter(instead))

    with pytest.raises(UserError) as raised:
        refuse_foreign((f"{key}=1",), target_entry("k8s"))

    assert raised.value.hint == instead[key]


@pytest.mark.parametrize("target", ["local", "docker"])
def test_a_target_without_a_scheduler_takes_any_key(target: str) -> None:
    """The same project may be tried on this machine."""
    sets = ("slurm.partition=gpu", "kubernetes.queue=research")

    refuse_foreign(sets, target_entry(target))
    spec = resolve(
        Choices(model="qwen3_smoke", target=target, run="r", sets=sets), version="1", root="/r"
    ).spec

    assert spec.target == target


def test_its_own_key_and_a_key_of_no_scheduler_pass() -> None:
    refuse_foreign(("slurm.partition=gpu", "batch_size=4", "env.A=1"), target_entry("slurm"))

    spec = resolve(
        Choices(model="qwen3_smoke", target="slurm", run="r", sets=("slurm.partition=gpu",)),
        version="1",
        root="/r",
    ).spec
    assert spec.site.slurm.partition == "gpu"


def test_a_site_file_may_hold_every_schedulers_keys(tmp_path: Path) -> None:
    site = tmp_path / "both.yaml"
    site.write_text(
        "summary: both\nsettings:\n  slurm: {partition: gpu}\n  kubernetes: {queue: research}\n",
        encoding="utf-8",
    )
    spec = resolve(
        Choices(model="qwen3_smoke", target="slurm", run="r", site=str(site)), version="1", root="/r"
    ).spec

    assert spec.site.slurm.partition == "gpu"
    assert not hasattr(spec.site.slurm, "queue")
