"""``jobctl catalog`` prints what jobctl reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobctl.jobs.catalog.entries import HardwareEntry, LayerEntry
from jobctl.jobs.catalog.loader import KINDS, load_file, names
from jobctl.jobs.cli.catalog import ENTRIES
from tests.jobs.cli.test_cli import Invoke, jobctl

__all__ = ["jobctl"]

EVERY_ENTRY = [(kind, name) for kind in KINDS for name in names(kind)]


@pytest.mark.parametrize(("kind", "name"), EVERY_ENTRY)
def test_what_is_shown_is_a_file_of_that_kind(jobctl: Invoke, tmp_path: Path, kind: str, name: str) -> None:
    code, out, _ = jobctl("catalog", "show", name, "--kind", kind)
    assert code == 0
    file = tmp_path / f"{name}.yaml"
    file.write_text(out, encoding="utf-8")
    entry = HardwareEntry if kind == "hardware" else ENTRIES.get(kind, LayerEntry)
    shipped = Path(__file__).parents[3] / "jobs/catalog" / kind / f"{name}.yaml"
    assert load_file(file, entry) == load_file(shipped, entry)


@pytest.mark.parametrize(("site", "target"), [("example-slurm", "slurm"), ("example-k8s", "k8s")])
def test_a_shown_site_is_accepted_and_renders_the_same(
    jobctl: Invoke, tmp_path: Path, site: str, target: str
) -> None:
    copy = tmp_path / f"{site}.yaml"
    copy.write_text(jobctl("catalog", "show", site)[1], encoding="utf-8")
    words = ("render", "--model", "qwen3_smoke", "--target", target, "--run", "r", "--site")
    code, mine, err = jobctl(*words, str(copy))
    assert code == 0
    assert "sections" not in err
    assert mine == jobctl(*words, site)[1]


def test_a_model_is_shown_with_what_follows_from_its_numbers(jobctl: Invoke) -> None:
    lines = jobctl("catalog", "show", "qwen3_1.8b")[1].splitlines()
    assert lines[0].startswith("# model qwen3_1.8b, from ")
    assert "# parameters: 1,830,395,904" in lines
    assert "  architecture: qwen3" in lines


def test_json_has_the_entry_and_the_counts(jobctl: Invoke) -> None:
    facts = json.loads(jobctl("catalog", "show", "example-slurm", "--json")[1])
    assert facts["settings"]["slurm"]["partition"] == "gpu"
    assert (facts["name"], facts["kind"]) == ("example-slurm", "sites")


def test_an_unknown_entry_gets_the_nearest_name(jobctl: Invoke) -> None:
    code, _, err = jobctl("catalog", "show", "example-slrum")
    assert code == 2
    assert "did you mean 'example-slurm'?" in err
