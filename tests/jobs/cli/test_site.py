"""``jobctl site``: a file with every key, filled with what the cluster has, and held against it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from jobctl.jobs.catalog.schema import KEYS
from jobctl.jobs.cli.site import checked, refused_rows, site_text
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.targets.protocol import Offer, Survey
from jobctl.jobs.targets.registry import load_target, target_entry
from tests.jobs.cli.test_cli import Invoke, jobctl

__all__ = ["jobctl"]

ANSWER = Survey(
    offers=(
        Offer(key="slurm.partition", values=("cpu", "gpu"), chosen="gpu"),
        Offer(key="slurm.account", values=("nlp",), chosen="nlp"),
        Offer(key="slurm.qos", values=()),
    ),
    notes=("one thing could not be asked",),
)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Slurm cluster that answers with ``ANSWER``."""
    monkeypatch.setattr(load_target("slurm"), "survey", lambda site: ANSWER, raising=False)


def test_a_new_file_is_taken_as_it_is(jobctl: Invoke, cluster: None, root: Path, tmp_path: Path) -> None:
    code, out, err = jobctl("site", "new", "--target", "slurm")
    assert code == 0
    assert "one thing could not be asked" in err
    (tmp_path / "mine.yaml").write_text(out)
    script = jobctl("render", "--model", "qwen3_1.8b", "--target", "slurm", "--site", "./mine.yaml")[1]
    assert "#SBATCH --partition=gpu\n" in script
    assert "#SBATCH --account=nlp\n" in script


def test_a_new_file_may_take_the_place_of_the_one_that_the_project_names(
    jobctl: Invoke, cluster: None, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell empties the file of ``jobctl site new > mine.yaml`` before jobctl begins."""
    monkeypatch.chdir(tmp_path)
    Path("jobctl.yaml").write_text("target: slurm\nsite: ./mine.yaml\n")
    Path("mine.yaml").write_text("")

    code, out, err = jobctl("site", "new", "--target", "slurm")
    assert (code, "partition: " in out) == (0, True), err
    code, _, err = jobctl("site", "check")
    assert (code, "mine.yaml:1: must be a mapping" in err) == (2, True)


@pytest.mark.parametrize(("target", "section"), [("slurm", "slurm"), ("k8s", "kubernetes")])
def test_every_key_of_the_target_has_a_line_with_its_meaning(target: str, section: str) -> None:
    text = site_text(target, {}, {})
    lines = [line.strip().lstrip("# ") for line in text.splitlines()]
    for key in KEYS:
        if key.startswith((f"{section}.", "container.")) and key not in target_entry(target).refuses:
            name = key.partition(".")[2]
            assert [line for line in lines if line.startswith(f"{name}: ") and "  # " in line]

    assert yaml.safe_load(text)["settings"] == dict.fromkeys(
        ["container", section, *(["login"] if target == "slurm" else [])]
    )


def test_a_cluster_that_is_silent_leaves_the_names_to_the_user(
    jobctl: Invoke, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(site: object) -> Survey:
        raise UserError("nobody answers")

    monkeypatch.setattr(load_target("slurm"), "survey", silent, raising=False)
    code, out, err = jobctl("site", "new", "--target", "slurm")
    assert (code, "# partition:" in out, "nobody answers" in err) == (0, True, True)
    assert jobctl("site", "check", "--target", "slurm")[0] == 2


@pytest.mark.parametrize(("partition", "code"), [("gpu", 0), ("gpus", 1)])
def test_a_name_that_the_cluster_has_not_is_found(
    jobctl: Invoke, cluster: None, root: Path, tmp_path: Path, partition: str, code: int
) -> None:
    site = tmp_path / "mine.yaml"
    site.write_text(f"summary: mine\nsettings:\n  root: {tmp_path}\n  slurm: {{partition: {partition}}}\n")
    status, out, _ = jobctl("site", "check", "--target", "slurm", "--site", str(site), "--json")
    findings = {fact["key"]: fact["finding"] for fact in json.loads(out)}
    assert status == code
    assert findings["root"] == "ok"
    assert findings["slurm.partition"] == ("the cluster has: cpu, gpu" if code else "ok")


@pytest.mark.parametrize("named", ["mine.yaml", "./mine.yaml"])
def test_the_file_may_stand_after_the_command(
    jobctl: Invoke, cluster: None, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("summary: mine\nsettings:\n  slurm: {partition: gpus}\n")
    status, out, _ = jobctl("site", "check", named, "--target", "slurm")
    assert (status, "the cluster has: cpu, gpu" in out) == (1, True)

    code, _, err = jobctl("site", "check", named, "--target", "slurm", "--site", "./other.yaml")
    assert (code, "name two sites" in err) == (2, True)


def test_what_nobody_set_is_not_checked() -> None:
    settings = {"slurm.partition": "", "slurm.account": "other", "slurm.qos": "high"}
    assert checked(settings, ANSWER) == [
        ("slurm.account", "other", "the cluster has: nlp"),
        ("slurm.qos", "high", "the cluster has: none that is visible to you"),
    ]


def test_a_target_without_a_cluster_has_no_site(jobctl: Invoke, root: Path) -> None:
    code, _, err = jobctl("site", "new", "--target", "local")
    assert (code, "target local has no cluster" in err) == (2, True)


@pytest.mark.parametrize("target", ["slurm", "allocation", "k8s", "k8s-trainjob"])
def test_no_key_is_offered_that_the_target_refuses(target: str) -> None:
    offered = flat_keys(site_text(target, {}, {}))
    refused = target_entry(target).refuses
    assert not offered & refused.keys()
    assert "container.mounts" in offered
    assert {"modules", "secrets_file", "container.runtime"} <= offered | refused.keys()


def flat_keys(text: str) -> set[str]:
    """The keys of a site file, those in comments as well."""
    keys = set()
    section = ""
    for line in text.partition("settings:\n")[2].splitlines():
        name = line.strip().lstrip("# ").partition(":")[0]
        depth = len(line) - len(line.lstrip())
        if depth == 2 and line.rstrip().endswith(f"{name}:"):
            section = name
        else:
            keys.add(f"{section}.{name}" if depth == 4 else name)

    return keys


def test_a_key_that_no_pod_can_honour_is_found_in_a_site_file() -> None:
    settings = {
        "modules": ("cuda",),
        "container.runtime": "none",
        "secrets_file": "",
        "kubernetes.queue": "x",
    }
    ((key, value, finding),) = refused_rows("k8s", settings)
    assert (key, value) == ("modules", '["cuda"]')
    assert finding == "k8s has no counterpart: a pod's software is in its image: --image REF"
    assert refused_rows("slurm", settings) == []
