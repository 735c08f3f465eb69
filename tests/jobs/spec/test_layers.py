"""Merging: the stronger layer wins, every key has one origin, and nothing unknown slips through."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobctl.jobs.catalog.loader import parse_yaml
from jobctl.jobs.catalog.schema import SlurmSection, TrainConfig
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.layers import KEYS, Layer, merge, parse_set, parse_trainer_flags, section, site_of

PLAIN_KEYS = ["batch_size", "max_iters", "seed", "warmup_iters"]
settings = st.dictionaries(st.sampled_from(PLAIN_KEYS), st.integers(1, 10**6))


@given(st.lists(settings, min_size=1, max_size=6))
def test_the_last_layer_that_sets_a_key_wins_and_is_its_origin(layers: list[dict[str, int]]) -> None:
    values, origins = merge([Layer(str(i), layer) for i, layer in enumerate(layers)])
    assert set(values) == set().union(*layers)
    for key, value in values.items():
        strongest = max(i for i, layer in enumerate(layers) if key in layer)
        assert value == layers[strongest][key]
        assert origins[key].name == str(strongest)


@given(st.lists(st.dictionaries(st.sampled_from("ABCD"), st.text(max_size=5)), min_size=1, max_size=5))
def test_mappings_merge_key_by_key(layers: list[dict[str, str]]) -> None:
    values, _ = merge([Layer(str(i), {"env": layer}) for i, layer in enumerate(layers)])
    expected: dict[str, str] = {}
    for layer in layers:
        expected |= layer
    assert values["env"] == expected


def test_a_dotted_key_sets_one_entry_of_a_mapping() -> None:
    values, origins = merge([Layer("site", {"env": {"A": "1", "B": "2"}}), Layer("--set", {"env.A": "3"})])
    assert values["env"] == {"A": "3", "B": "2"}
    assert origins["env.A"].name == "--set"
    assert origins["env.B"].name == "site"


def test_no_key_belongs_to_two_sections() -> None:
    from jobctl.jobs.catalog.schema import SECTIONS, SITE_SECTIONS

    sections = [*SECTIONS, *SITE_SECTIONS.values()]
    assert len(KEYS) == sum(len(kind.__struct_fields__) for kind in sections) - len(SITE_SECTIONS)


def test_an_unknown_key_names_file_line_and_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "jobctl.yaml"
    file.write_text("settings:\n  seed: 1\n  bath_size: 3\n")
    with pytest.raises(
        UserError, match=r"jobctl\.yaml:3: unknown key 'bath_size'; did you mean 'batch_size'"
    ):
        merge([Layer("project file", {"seed": 1, "bath_size": 3}, str(file))])


def test_an_impossible_value_names_where_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "jobctl.yaml"
    file.write_text("settings:\n  batch_size: 0\n")
    values, origins = merge([Layer("project file", {"batch_size": 0}, str(file))])
    with pytest.raises(
        UserError, match=r"jobctl\.yaml:2: batch_size is 0; it must be a whole number of at least 1"
    ):
        section(TrainConfig, values, origins)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("batch_size=4", ("batch_size", 4)),
        ("learning_rate=3e-4", ("learning_rate", 3e-4)),
        ("account=0123", ("slurm.account", "0123")),
        ("slurm.account=0123", ("slurm.account", "0123")),
        ("slurm.spare_nodes=2", ("slurm.spare_nodes", 2)),
        ("kubernetes.node_selector.gpu/x=1", ("kubernetes.node_selector.gpu/x", "1")),
        ("node_selector.gpu/x=1", ("kubernetes.node_selector.gpu/x", "1")),
        ("env.NCCL_DEBUG=1", ("env.NCCL_DEBUG", "1")),
        ("pass_env=[A, B]", ("pass_env", ["A", "B"])),
        ("constraint=a=b", ("slurm.constraint", "a=b")),
    ],
)
def test_set_reads_yaml_but_leaves_text_alone(text: str, pair: tuple[str, Any]) -> None:
    assert parse_set(text) == pair


def site_layer(tmp_path: Path, text: str) -> Layer:
    """A site file's layer; ``text`` holds the lines under ``settings:``."""
    file = tmp_path / "site.yaml"
    file.write_text(f"settings:\n{text}")
    return Layer("site", parse_yaml(file.read_text(), str(file))["settings"], str(file))


def test_a_section_and_the_old_flat_keys_mean_the_same(tmp_path: Path) -> None:
    new = site_layer(tmp_path, "  slurm:\n    partition: gpu\n  container:\n    runtime: pyxis\n")
    old = Layer("site", {"partition": "gpu", "container_runtime": "pyxis"})
    sites = [site_of(*merge([layer])) for layer in (new, old)]
    assert sites[0] == sites[1]
    assert (sites[0].slurm.partition, sites[0].container.runtime) == ("gpu", "pyxis")


def test_a_stronger_layer_changes_one_key_of_a_section(tmp_path: Path) -> None:
    site = site_layer(tmp_path, "  slurm:\n    partition: gpu\n    account: nlp\n")
    values, origins = merge([site, Layer("--set", dict([parse_set("partition=debug")]))])
    assert site_of(values, origins).slurm == SlurmSection(partition="debug", account="nlp")
    assert (origins["slurm.partition"].name, origins["slurm.account"].name) == ("--set", "site")


def test_a_section_without_keys_sets_nothing(tmp_path: Path) -> None:
    assert merge([site_layer(tmp_path, "  slurm:\n    # partition: gpu\n")]) == ({}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "  slurm:\n    partiton: gpu\n",
            ":3: unknown key 'slurm.partiton'; did you mean 'slurm.partition'?",
        ),
        ("  slurm:\n    qos: a\n    pvc: b\n", ":4: unknown key 'slurm.pvc'"),
        ("  slrum:\n    qos: a\n", ":2: unknown key 'slrum'"),
        ("  seed: 1\n  namespce: a\n", ":3: unknown key 'namespce'; did you mean 'kubernetes.namespace'?"),
        ("  slurm: gpu\n", ":2: slurm must be a section with keys: cluster, "),
        ("  partition: a\n  slurm:\n    partition: b\n", ":2: slurm.partition is set twice"),
        (
            "  slurm:\n    qos: a\n    spare_nodes: -1\n",
            ":4: slurm.spare_nodes is -1; it must be a whole number of at least 0",
        ),
        ("  seed: 1\n  spare_nodes: x\n", ":3: slurm.spare_nodes is 'x'; it must be a whole number"),
        (
            "  seed: 1\n  kubernetes.run_as_user: 0\n",
            ":3: kubernetes.run_as_user is 0; it must be a whole number of at least 1",
        ),
    ],
)
def test_a_mistake_in_a_section_names_file_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        site_of(*merge([site_layer(tmp_path, text)]))
    assert f"site.yaml{message}" in str(error.value)


@pytest.mark.parametrize(
    "text", ["batch_size", "=3", "nonsense=1", "batch_size=[1", "slurm.nonsense=1", "slurm={qos: a}"]
)
def test_a_set_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_set(text)


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (["--max_iters=10"], {"max_iters": 10}),
        (["--max_iters", "10", "--compile"], {"max_iters": 10, "compile": True}),
        (["--compile=False"], {"compile": False}),
        (["--no-compile"], {"compile": False}),
        (["--no_use_zero1", "--use-fsdp=True"], {"use_zero1": False, "use_fsdp": True}),
        (["--flash_attn=True"], {"attention_backend": "flash_attn_2"}),
        (["--dtype=bfloat16"], {"dtype": "bfloat16"}),
    ],
)
def test_every_spelling_of_a_trainer_flag(words: list[str], settings: dict[str, Any]) -> None:
    assert parse_trainer_flags(tuple(words)) == settings


@pytest.mark.parametrize("words", [["max_iters=10"], ["--partition=gpu"], ["--bogus=1"]])
def test_a_flag_that_is_not_the_trainers_is_refused(words: list[str]) -> None:
    with pytest.raises(UserError):
        parse_trainer_flags(tuple(words))
