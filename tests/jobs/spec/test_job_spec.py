"""A job spec says who it is, what it means, and how many work on it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from jobctl.jobs.spec.job_spec import JobSpec, TrainSpec, foreign_sections, seconds
from jobctl.jobs.spec.patch import Patch
from jobctl.jobs.spec.resolution import Choices, resolve


def spec_of(kind: str = "train", **choices: Any) -> JobSpec:
    model = {"model": "qwen3_smoke"} if kind in ("train", "eval", "sweep") else {}
    return resolve(Choices(kind=kind, **{**model, **choices}), version="1.2", root="/r").spec


@pytest.mark.parametrize(
    ("kind", "prefix", "title"),
    [
        ("train", "qwen3_smoke-train", "qwen3_smoke on cpu, tier 1, stage train"),
        ("eval", "qwen3_smoke-eval", "qwen3_smoke on cpu, tier 1, stage eval"),
        ("prep", "prep-slimpajama_6b-gpt2", "prep of slimpajama_6b with gpt2"),
        ("tokenizer", "tokenizer-gpt2", "tokenizer of gpt2"),
        ("preflight", "preflight-cpu", "preflight of 1 × cpu"),
    ],
)
def test_a_spec_is_called_by_its_subject(kind: str, prefix: str, title: str) -> None:
    spec = spec_of(kind)
    assert (spec.run_prefix, spec.title) == (prefix, title)


def test_a_job_on_a_checkpoint_carries_its_kind_in_its_name() -> None:
    assert spec_of("train", run="r").name == "r"
    assert spec_of("eval", run="r").name == "r:eval"
    assert spec_of("export", run="r").name == "r:export"
    assert spec_of("train").name is None


@pytest.mark.parametrize(
    ("sets", "processes"),
    [
        ((), 8),
        (("gpus_per_node=2",), 2),
        (("gpus_per_node=2", "processes_per_node=6"), 6),
    ],
)
def test_a_process_has_a_gpu_unless_someone_says_otherwise(sets: tuple[str, ...], processes: int) -> None:
    assert spec_of(model="llama3_1.5b", hardware="h200", sets=sets).processes_per_node == processes


def test_the_world_is_all_processes_of_all_nodes() -> None:
    sets = ("batch_size=2", "gradient_accumulation_steps=3", "block_size=64", "processes_per_node=2")
    spec = spec_of(target="slurm", sets=sets, named={"nodes": 3})
    assert isinstance(spec, TrainSpec)
    assert (spec.world_size, spec.global_batch_size, spec.tokens_per_step) == (6, 36, 2304)


@pytest.mark.parametrize(("kind", "retries"), [("train", 2), ("prep", 2), ("sweep", 0)])
def test_a_sweep_is_not_tried_again(kind: str, retries: int) -> None:
    sets = ("retries=2", *(["sweep_batch_sizes=[1, 2]"] if kind == "sweep" else []))
    assert spec_of(kind, sets=sets).retries == retries


@pytest.mark.parametrize(("kind", "checked"), [("train", True), ("prep", False), ("preflight", False)])
def test_only_a_training_is_checked_before_it_begins(kind: str, checked: bool) -> None:
    assert spec_of(kind, sets=("preflight=report",)).checked is checked
    assert not spec_of(kind, sets=("preflight=off",)).checked


def test_the_image_is_ours_unless_another_is_named() -> None:
    assert spec_of().image == "jobctl:1.2-cpu"
    assert spec_of(named={"image": "registry/x:1"}).image == "registry/x:1"


@pytest.mark.parametrize(
    ("target", "sections"),
    [("slurm", {"kubernetes"}), ("k8s", {"slurm"}), ("local", {"slurm", "kubernetes"})],
)
def test_the_sections_of_other_schedulers_are_foreign(target: str, sections: set[str]) -> None:
    assert sections <= set(foreign_sections(target))
    assert "container" not in foreign_sections(target)


def test_the_hash_is_of_the_work_and_not_of_what_is_around_it() -> None:
    spec = spec_of(target="slurm")
    around: list[JobSpec] = [
        msgspec.structs.replace(spec, version="9"),
        msgspec.structs.replace(spec, run="another"),
        msgspec.structs.replace(spec, after=("first",)),
        msgspec.structs.replace(spec, trusted=("someone",)),
        msgspec.structs.replace(spec, patch=Patch(tree="/t", revision="1", diff_sha256="2")),
    ]
    assert {other.fingerprint() for other in around} == {spec.fingerprint()}
    work = msgspec.structs.replace(spec, inputs=msgspec.structs.replace(spec.inputs, dataset="other"))
    assert work.fingerprint() != spec.fingerprint()


def test_the_record_is_one_line_of_sorted_json_without_what_belongs_to_a_submission() -> None:
    spec = msgspec.structs.replace(spec_of(run="r"), trusted=("me",), recorded_hash="0" * 16)
    record = spec.record()
    assert "\n" not in record
    data = json.loads(record)
    assert data["spec_hash"] == "0" * 16
    assert not {"trusted", "recorded_hash", "edited"} & set(data["spec"])
    assert list(data["spec"]) == sorted(data["spec"])


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("30", 1800),
        ("30:15", 1815),
        ("1:30:15", 5415),
        ("2-0", 172_800),
        ("2-12", 216_000),
        ("1-02:30", 95_400),
        ("1-02:30:05", 95_405),
    ],
)
def test_a_time_limit_in_seconds(text: str, count: int) -> None:
    assert seconds(text) == count
