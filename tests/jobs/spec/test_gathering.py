"""The layers of a job: which there are, in which order, and where each comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs import kinds
from jobctl.jobs.catalog.entries import ModelEntry
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.gathering import (
    all_layers,
    default_hardware,
    entry_name,
    hardware_of,
    limit_warnings,
    load_choice,
    old_name_warnings,
    user_layers,
)
from jobctl.jobs.spec.layers import Layer, merge
from jobctl.jobs.spec.resolution import Choices


def layers_of(
    hardware: str = "b200", project: Layer | None = None, root: str = "", **choices: object
) -> list[Layer]:
    given = Choices(model="qwen3_1.8b", **choices)  # type: ignore[arg-type]
    return all_layers(given, hardware, "train", root, project)[1]


def names_of(layers: list[Layer]) -> list[str]:
    return [layer.name for layer in layers]


def test_the_order_is_the_one_that_explain_documents() -> None:
    project = Layer("project", {"seed": 5})
    names = names_of(layers_of(project=project, root="/r", sets=("seed=6",), trainer_flags=("--seed=7",)))

    order = [
        "model qwen3_1.8b",
        "hardware b200",
        "tiers 1",
        "stages train",
        "limits of b200",
        "site local",
        "project",
        "--set",
        "trainer flag",
        "flag",
        "$JOBCTL_ROOT",
    ]
    singular = [name.replace("tiers", "tier").replace("stages", "stage") for name in order]
    assert [name for name in names if name in singular] == singular


@pytest.mark.parametrize(
    ("choices", "project", "expected"),
    [
        ({}, {"seed": 5}, 5),
        ({"sets": ("seed=6",)}, {"seed": 5}, 6),
        ({"sets": ("seed=6",), "trainer_flags": ("--seed=7",)}, {"seed": 5}, 7),
    ],
)
def test_a_stronger_layer_wins(choices: dict[str, object], project: dict[str, object], expected: int) -> None:
    layers = layers_of(project=Layer("project", project), **choices)

    assert merge(layers)[0]["seed"] == expected


def test_only_what_the_user_typed_is_called_the_users() -> None:
    layers = layers_of(project=Layer("project", {"seed": 5}), root="/r")

    assert [layer.name for layer in layers if layer.by_user] == ["--set", "trainer flag", "flag"]


def test_a_rule_of_the_hardware_applies_to_its_model_alone() -> None:
    """The guide's batch of an A6000 differs from model to model."""
    for model in ("gpt2_1.36b", "qwen3_1.8b"):
        layers = all_layers(Choices(model=model), "a6000", "train", "", None)[1]
        rules = [name for name in names_of(layers) if name.startswith("hardware a6000 for")]
        assert rules
        assert all(f"for {model} (" in name for name in rules)


def test_a_limit_is_stronger_than_tier_and_stage_and_says_so() -> None:
    layers = all_layers(Choices(model="qwen3_1.8b", tier=4), "a6000", "train", "", None)[1]
    values, origins = merge(layers)

    assert values["use_fp8"] is False
    assert any(
        warning.startswith("limits of a6000: use_fp8 is False")
        for warning in limit_warnings(layers, values, origins)
    )


def test_a_limit_that_changes_nothing_says_nothing() -> None:
    layers = all_layers(Choices(model="qwen3_1.8b", tier=1), "a6000", "train", "", None)[1]

    assert limit_warnings(layers, *merge(layers)) == []


def test_a_target_with_a_root_of_its_own_decides_it() -> None:
    layers = layers_of(root="/mine", target="k8s")

    assert names_of(layers)[-1] == "target k8s"
    assert merge(layers)[0]["root"] == merge(layers[-1:])[0]["root"] != "/mine"


def test_an_unknown_tier_is_named_with_those_that_exist() -> None:
    with pytest.raises(UserError, match="unknown tier '9'; known: 1, 2, 3, 4"):
        layers_of(tier=9)


def test_a_file_is_an_entry_where_a_name_could_be(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    entry, named = load_choice("models", "qwen3_1.8b", ModelEntry)
    file.write_text(Path(named).read_text(encoding="utf-8"), encoding="utf-8")

    own, own_file = load_choice("models", str(file), ModelEntry)

    assert own == entry
    assert own_file == str(file)


@pytest.mark.parametrize(
    ("choice", "name"),
    [("qwen3_1.8b", "qwen3_1.8b"), ("/a/b/mine.yaml", "mine"), ("./x.yml", "x"), ("a/b", "b")],
)
def test_the_name_of_a_file_is_its_last_part_without_the_ending(choice: str, name: str) -> None:
    assert entry_name(choice) == name


@pytest.mark.parametrize("choice", ["a b.yaml", "/x/$(id).yaml", "x/", "../é.yml"])
def test_a_name_that_no_folder_can_have_is_refused(choice: str) -> None:
    with pytest.raises(UserError, match="only letters, digits"):
        entry_name(choice)


def test_the_hardware_follows_from_the_model_unless_it_is_named() -> None:
    train = kinds.job_kind("train")
    prep = kinds.job_kind("prep")

    assert default_hardware("qwen3_1.8b") == "b200"
    assert hardware_of(Choices(model="qwen3_smoke"), train) == "cpu"
    assert hardware_of(Choices(model="qwen3_smoke", hardware="h100"), train) == "h100"
    assert hardware_of(Choices(kind="prep"), prep) == "cpu"


def test_a_secret_in_any_layer_is_refused() -> None:
    with pytest.raises(UserError, match="WANDB_API_KEY"):
        layers_of(sets=("env.WANDB_API_KEY=0123456789abcdef0123456789abcdef01234567",))


def test_old_names_of_a_site_file_are_read_with_a_word(tmp_path: Path) -> None:
    site = tmp_path / "old.yaml"
    site.write_text("summary: old\nsettings:\n  partition: gpu\n", encoding="utf-8")
    layers = user_layers(Choices(model="qwen3_smoke", site=str(site)), "", None)

    assert merge(layers)[0]["slurm.partition"] == "gpu"
    warnings = old_name_warnings(layers)
    assert len(warnings) == 1
    assert f"{site}:3" in warnings[0]
    assert "write slurm.partition instead of partition" in warnings[0]
