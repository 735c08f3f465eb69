"""YAML comes in typed, and what does not fit is named with its file, line and key."""

from pathlib import Path

import pytest

from jobctl.jobs.catalog.entries import HardwareEntry, LayerEntry
from jobctl.jobs.catalog.loader import (
    KINDS,
    line_of,
    load_entry,
    load_file,
    load_hardware,
    load_layer,
    load_model,
    names,
    parse_yaml,
    peak_flops,
)
from jobctl.jobs.core.errors import UserError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("1_000", 1000),
        ("010", 10),
        ("-08", -8),
        ("0x10", "0x10"),
        ("24:00:00", "24:00:00"),
        ("on", "on"),
        ("true", True),
        ("~", None),
        ("1.5", 1.5),
    ],
)
def test_scalars_are_read_as_yaml_1_2_reads_them(text: str, value: object) -> None:
    assert parse_yaml(text, "here") == value


def test_a_syntax_error_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text("summary: mine\nsettings:\n  partition: [gpu\n")
    with pytest.raises(UserError, match=r"site\.yaml:4: not YAML"):
        load_file(file, LayerEntry)


def test_a_key_written_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text("summary: mine\nsettings:\n  account: a\n  account: b\n")
    with pytest.raises(UserError, match=r"site\.yaml:4: not YAML: the key 'account' occurs twice"):
        load_file(file, LayerEntry)


def test_an_unknown_key_names_file_line_and_the_nearest_right_one(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text("summary: mine\nsetings:\n  account: a\n")
    with pytest.raises(
        UserError, match=r"site\.yaml:2: setings: unknown key 'setings'; did you mean 'settings'"
    ):
        load_file(file, LayerEntry)


def test_a_value_of_the_wrong_type_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    text = (Path(__file__).parents[3] / "jobs/catalog/hardware/h200.yaml").read_text()
    file.write_text(text.replace("memory_gib: 141", "memory_gib: lots"))
    line = text[: text.index("memory_gib: 141")].count("\n") + 1
    with pytest.raises(UserError, match=rf"node\.yaml:{line}: facts\.memory_gib: must be a number"):
        load_file(file, HardwareEntry)


def test_a_file_that_is_absent_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        load_file(tmp_path / "nowhere.yaml", LayerEntry)


def test_the_line_of_an_item_in_a_list_is_found() -> None:
    assert line_of("a:\n  - b: 1\n  - b: 2\n    c: 3\n", "a", 1, "c") == 4


def test_every_entry_of_every_kind_has_a_summary() -> None:
    from jobctl.jobs.cli.catalog import _entry

    entries = [(kind, name) for kind in KINDS for name in names(kind)]
    assert len(entries) > 30
    for kind, name in entries:
        assert len(_entry(kind, name).summary) > 10, (kind, name)


def test_an_unknown_entry_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown hardware 'h20'; did you mean 'h200'"):
        load_hardware("h20")
    with pytest.raises(UserError, match="unknown site"):
        load_layer("sites", "nowhere")


def test_a_model_comes_with_its_architecture_and_its_recipe() -> None:
    model = load_model("llama3_1.5b")
    assert model.config.num_key_value_heads == 8
    assert model.train["lr_decay_iters"] == 50_000
    assert "tokenizer" not in model.train


def test_peaks_are_dense_and_found_by_the_drivers_name() -> None:
    assert peak_flops("NVIDIA H200") == (989e12, "h200")
    assert peak_flops("NVIDIA B200") == (2250e12, "b200")
    assert peak_flops("NVIDIA A100-SXM4-80GB") == (312e12, "a100")
    assert peak_flops("NVIDIA RTX A6000") == (154.8e12, "a6000")
    assert peak_flops("NVIDIA H100 80GB HBM3", "fp8") == (1979e12, "h100")
    assert peak_flops("Tesla K80") is None


def test_entries_are_read_once() -> None:
    assert load_entry("hardware", "b200", HardwareEntry) is load_entry("hardware", "b200", HardwareEntry)


@pytest.mark.parametrize("text", [".inf", "-1e999", ".nan", "1e999"])
def test_a_number_that_is_not_finite_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(UserError, match=r"site\.yaml:2: not YAML: .* is not a finite number"):
        parse_yaml(f"a: 1.5\nb: {text}\n", "site.yaml")


def test_a_number_of_thousands_of_digits_is_refused_with_its_line() -> None:
    with pytest.raises(UserError, match=r"site\.yaml:2: not YAML: a number with too many digits"):
        parse_yaml(f"a: 1\nb: {'9' * 5000}\n", "site.yaml")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "- " * 100_000, "{a: " * 100_000, "\n".join(" " * n + "a:" for n in range(1000))]
)
def test_yaml_that_is_nested_without_end_is_refused_in_words(text: str) -> None:
    with pytest.raises(UserError, match=r"mine\.yaml:\d+: nested deeper than 64 levels"):
        parse_yaml(text, "mine.yaml")


def test_yaml_as_deep_as_a_settings_file_is_read() -> None:
    assert parse_yaml("[" * 60 + "]" * 60, "mine.yaml")
    assert parse_yaml("a: &x [1, 2]\nb: *x\n", "mine.yaml") == {"a": [1, 2], "b": [1, 2]}


def test_yaml_that_its_aliases_make_endless_is_refused_in_words() -> None:
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(UserError, match=r"mine\.yaml:\d+: more than 100000 values"):
        parse_yaml("\n".join(lines), "mine.yaml")
