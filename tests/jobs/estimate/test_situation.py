"""How a training is seen: its kernels, its layout over the ranks, and its card."""

from __future__ import annotations

import msgspec
import pytest

from jobctl.jobs.catalog.loader import family_names, load_family, load_hardware
from jobctl.jobs.estimate.situation import capability, situation_of, usable_gib
from jobctl.jobs.spec.job_spec import TrainSpec
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.trainer.models.registry import family_of
from tests.jobs.estimate.trainings import on_cpu, training


@pytest.mark.parametrize("name", family_names())
def test_the_facts_say_of_each_family_whether_its_block_is_fused(name: str) -> None:
    assert load_family(name).fused_block == (family_of(name).fused_block is not None)


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({}, "fused"),
        ({"compile": False}, "fused"),
        ({"kernels": "plain"}, "compiled"),
        ({"kernels": "plain", "compile": False}, "eager"),
        ({"dtype": "float16"}, "compiled"),
        ({"dtype": "float32", "compile": False}, "eager"),
    ],
)
def test_the_path_is_the_one_that_the_trainer_takes(settings: dict[str, object], path: str) -> None:
    assert training("qwen3_1.8b", 8, **settings).path == path


def test_a_cpu_computes_with_plain_operations() -> None:
    assert on_cpu("qwen3_smoke", 4).path == "eager"


@pytest.mark.parametrize(
    ("ranks", "way", "sharding"),
    [
        (1, "fsdp", "none"),
        (2, "fused", "ddp"),
        (2, "zero1", "zero1"),
        (2, "fsdp", "fsdp"),
    ],
)
def test_one_process_shares_with_nobody(ranks: int, way: str, sharding: str) -> None:
    assert training("qwen3_1.8b", 8, way, ranks=ranks).sharding == sharding


@pytest.mark.parametrize(
    ("hardware", "way", "ranks", "float8"),
    [
        ("h200", "float8", 1, True),
        ("h200", "fused", 1, False),
        ("h200", "float8", 2, True),
        ("a100", "float8", 1, False),
    ],
)
def test_float8_needs_the_hardware_for_it(hardware: str, way: str, ranks: int, float8: bool) -> None:
    assert training("qwen3_1.8b", 8, way, hardware=hardware, ranks=ranks).float8 is float8


def test_float8_is_left_out_where_fsdp_gathers_the_weights() -> None:
    assert not training("qwen3_1.8b", 8, "float8", ranks=2, use_fsdp=True).float8


@pytest.mark.parametrize(("hardware", "repeats"), [("h200", True), ("a100", False), ("b200", False)])
def test_attention_repeats_on_hopper_unless_it_is_told_not_to(hardware: str, repeats: bool) -> None:
    assert training("qwen3_1.8b", 8, hardware=hardware).repeatable is repeats
    assert not training("qwen3_1.8b", 8, hardware=hardware, deterministic="off").repeatable


def test_a_job_spec_becomes_a_situation() -> None:
    choices = Choices(model="qwen3_1.8b", hardware="h200", target="slurm", named={"nodes": 2})
    spec = resolve(choices, version="test").spec
    assert isinstance(spec, TrainSpec)
    situation = situation_of(spec)
    assert (situation.ranks, situation.ranks_per_node, situation.gpu) == (16, 8, True)
    assert situation.several_nodes
    assert situation.tokens == spec.train.batch_size * 2048
    assert situation.with_batch(3).tokens == 3 * 2048


def test_a_card_has_what_its_driver_reports_and_a_little_less_than_its_name_says() -> None:
    assert usable_gib(load_hardware("h200")) == 139.8
    unknown = msgspec.structs.replace(load_hardware("h200"), usable_gib=0.0)
    assert 138 < usable_gib(unknown) < 141


def test_an_architecture_is_read_as_two_numbers() -> None:
    assert capability(load_hardware("h200").facts) == (9, 0)
    assert capability(load_hardware("b200").facts) == (10, 0)
    assert capability(load_hardware("cpu").facts) == (0, 0)
