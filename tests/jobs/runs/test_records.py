"""A record says what it meant, whatever version of jobctl wrote it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobctl.jobs.catalog.schema import KubernetesSection, SlurmSection
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.records import BadRun, parse_record
from jobctl.jobs.spec.job_spec import RECORD_FORMAT, JobSpec, TrainSpec
from jobctl.jobs.spec.resolution import Choices, resolve
from tests.jobs.cli.test_cli import Invoke, jobctl

__all__ = ["jobctl"]

FORMAT_1 = Path(__file__).parent / "data/format-1"
"""The root of a pipeline whose training failed, made by the version before the formats."""
FORMAT_2 = Path(__file__).parent / "data/format-2"
"""Records of three targets from before a site had sections."""
PAYLOAD = """#!/bin/bash
echo "$2" >>"$JOBCTL_ROOT/steps"
"""


class NewerSection(KubernetesSection, frozen=True, kw_only=True):
    """A section of a later version, which has one key more."""

    fake: str = ""


def spec_of(target: str, **options: Any) -> JobSpec:
    return resolve(
        Choices(model="qwen3_smoke", target=target, run="r", **options), version="1", root="/r"
    ).spec


def newer(spec: JobSpec, fake: str = "") -> JobSpec:
    section = NewerSection(**msgspec.structs.asdict(spec.site.kubernetes), fake=fake)
    site = msgspec.structs.replace(spec.site, kubernetes=section)
    return msgspec.structs.replace(spec, site=site)


@pytest.fixture
def old_root(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The old root as if it had always been here."""
    old = tmp_path / "old"
    shutil.copytree(FORMAT_1, old)
    payload = tmp_path / "payload"
    payload.write_text(PAYLOAD)
    payload.chmod(0o755)
    for file in old.rglob("*"):
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            file.write_text(text.replace("@ROOT@", str(old)).replace("@PAYLOAD@", str(payload)))
    monkeypatch.setenv("JOBCTL_ROOT", str(old))
    return old


@pytest.mark.parametrize("target", ["local", "docker", "slurm", "k8s"])
def test_a_record_is_read_as_the_spec_that_it_was(target: str) -> None:
    spec = spec_of(target)
    record = parse_record(spec.record(), "here")
    assert record.spec == spec
    assert record.format == RECORD_FORMAT
    assert record.spec_hash == spec.fingerprint()


def test_a_record_has_no_key_that_only_another_target_reads() -> None:
    written = json.loads(spec_of("slurm").record())["spec"]["site"]
    assert "kubernetes" not in written
    assert set(written["slurm"]) == set(SlurmSection.__struct_fields__)
    kept = json.loads(spec_of("slurm", named={"namespace": "team"}).record())["spec"]["site"]
    assert kept["kubernetes"] == {"namespace": "team"}, "a choice is kept, though Slurm does not read it"


def test_a_new_key_of_another_target_does_not_change_a_run() -> None:
    slurm = spec_of("slurm")
    assert newer(slurm).fingerprint() == slurm.fingerprint()
    assert newer(slurm, fake="used").fingerprint() == slurm.fingerprint()
    assert "kubernetes" not in json.loads(newer(slurm).record())["spec"]["site"]
    kubernetes = spec_of("k8s")
    assert newer(kubernetes).fingerprint() == kubernetes.fingerprint()
    assert newer(kubernetes, fake="used").fingerprint() != kubernetes.fingerprint()


@pytest.mark.parametrize(
    "changes",
    [
        {"sets": ("seed=7",)},
        {"sets": ("hidden_size=128",)},
        {"named": {"dataset": "fineweb"}},
        {"named": {"nodes": 2}},
        {"sets": ("partition=other",)},
        {"sets": ("env.A=b",)},
        {"stage": "mfu"},
    ],
    ids=str,
)
def test_what_a_run_means_changes_its_hash(changes: dict[str, Any]) -> None:
    assert spec_of("slurm", **changes).fingerprint() != spec_of("slurm").fingerprint()


def test_the_version_of_jobctl_does_not_change_a_runs_hash() -> None:
    choices = Choices(model="qwen3_smoke")
    hashes = {resolve(choices, version=version).spec.fingerprint() for version in ("1", "2")}
    assert len(hashes) == 1


def test_a_record_without_a_format_is_read(old_root: Path) -> None:
    run = runs.read(old_root, "p-train")
    assert run.record.format == 1
    assert isinstance(run.record.spec, TrainSpec)
    assert run.record.spec.model_name == "qwen3_smoke"
    assert run.record.submitted.startswith("20")


def test_a_run_directory_of_an_older_version_is_listed_and_resumed(old_root: Path, jobctl: Invoke) -> None:
    code, out, _ = jobctl("list", "--json")
    assert code == 0
    assert {run["run"]: run["state"] for run in json.loads(out)} == {
        "p-tokenizer": "finished",
        "p-prep": "finished",
        "p-preflight": "finished",
        "p-train": "failed",
    }
    assert jobctl("resume", "p-train")[0] == 0
    assert jobctl("wait", "p-train")[0] == 0
    assert [attempt.exit_code for attempt in runs.read(old_root, "p-train").attempts] == [7, 0]


def test_a_pipeline_of_an_older_version_goes_on(old_root: Path, jobctl: Invoke) -> None:
    words = ("pipeline", "--model", "qwen3_smoke", "--run", "p", "--wait")
    code, _, err = jobctl(*words, f"--set=python={old_root.parent / 'payload'}")
    assert code == 0, err
    assert (old_root / "steps").read_text().split() == [
        "jobctl.trainer.launch",
        "jobctl.trainer.launch",
        "jobctl.trainer.export",
    ]


def test_a_key_that_this_version_no_longer_has_is_left_out() -> None:
    data = json.loads(spec_of("slurm").record())
    data["spec"]["site"]["gone"] = 1
    data["spec"]["site"]["slurm"]["gone"] = 1
    data["spec"]["train"]["gone"] = 2
    assert parse_record(json.dumps(data), "here").spec == spec_of("slurm")


@pytest.mark.parametrize("target", ["slurm", "k8s", "local"])
def test_a_record_from_before_the_sections_is_the_same_run(target: str) -> None:
    text = (FORMAT_2 / f"{target}.json").read_text(encoding="utf-8")
    record = parse_record(text, "here")
    assert record.format == 2
    assert record.spec.fingerprint() == record.spec_hash, "the upgrade does not change what a run is"
    assert record.spec.site.container.mounts == ("/data:/data:ro",)
    assert record.spec.site.nodelist == "n1,n2"


def test_the_keys_of_format_2_are_in_their_sections() -> None:
    slurm = parse_record((FORMAT_2 / "slurm.json").read_text(encoding="utf-8"), "here").spec.site
    assert (slurm.slurm.partition, slurm.slurm.account, slurm.slurm.spare_nodes) == ("gpu", "nlp", 1)
    assert (slurm.slurm.exclusive, slurm.container.runtime) == (False, "pyxis")
    assert slurm.kubernetes.namespace == "kept"
    cluster = parse_record((FORMAT_2 / "k8s.json").read_text(encoding="utf-8"), "here").spec.site
    assert (cluster.kubernetes.context, cluster.kubernetes.run_as_user) == ("ours", 2000)
    assert cluster.kubernetes.node_selector == {"zone": "a"}
    assert cluster.slurm.partition == "kept"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "here: "),
        ('{"format": 2, "spec": {"site": 1}}', "here: this version cannot read the run's record"),
        ("[]", "here: not a run's record: it has no spec"),
        ('{"spec": 1}', "here: not a run's record: it has no spec"),
        ('{"format": 99, "spec": {}}', "here: its format is 99; this jobctl reads formats up to"),
        (
            '{"spec": {"version": "0.0.1"}}',
            r"here: this version cannot read the run's record: .*jobctl 0\.0\.1 wrote it",
        ),
    ],
)
def test_what_is_no_record_says_where_it_is(text: str, message: str) -> None:
    with pytest.raises(BadRun, match=message) as caught:
        parse_record(text, "here")
    assert caught.value.code == 1


def test_a_record_of_an_unknown_target_is_refused_by_its_name() -> None:
    text = spec_of("slurm").record().replace('"target":"slurm"', '"target":"slrum"')
    with pytest.raises(
        BadRun, match="here: not a run's record: unknown target 'slrum'; did you mean 'slurm'"
    ):
        parse_record(text, "here")


def test_an_image_variant_that_is_gone_becomes_the_image_it_meant() -> None:
    data = json.loads(spec_of("slurm", hardware="h100").record())
    del data["format"]
    data["spec"]["version"] = "0.1.0"
    data["spec"]["inputs"]["image_variant"] = "cu128"
    data["spec"]["facts"]["image_variants"] = ["cu128"]
    spec = parse_record(json.dumps(data), "here").spec
    assert spec.image == "jobctl:0.1.0-cu128"
    assert spec.facts.image_variants == ["cu132"]


def test_the_spec_of_a_resumption_keeps_the_hash_of_its_record() -> None:
    data = json.loads(spec_of("slurm").record()) | {"spec_hash": "0123456789abcdef"}
    record = parse_record(json.dumps(data), "here")
    resumed = record.spec_to_resume(("daemon",))
    assert resumed.trusted == ("daemon",)
    assert json.loads(resumed.record()) == data, "neither the owners nor the hash are part of the spec"
    assert record.spec.fingerprint() == spec_of("slurm").fingerprint()
