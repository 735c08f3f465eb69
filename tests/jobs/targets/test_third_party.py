"""A target of another package, made as CONTRIBUTING says, works without a line changed here."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.targets import registry
from tests.jobs.cli.test_cli import Invoke, jobctl, payload
from tests.recipes.recipe import CONTRIBUTING, File, section, steps

__all__ = ["jobctl", "payload"]

QSUB = """#!/bin/bash
PBS_JOBID=1.pbs setsid bash "$1" >/dev/null 2>&1 &
until [ -e "$(dirname "$1")/attempts/1.json" ]; do sleep 0.05; done
echo 1.pbs
"""


@pytest.fixture
def pbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package of the recipe, as if it were installed, and a ``qsub`` that runs the script at once."""
    folder = tmp_path / "installed"
    recipe = steps(section("A target", CONTRIBUTING.read_text(encoding="utf-8")))
    assert len(recipe) == 4

    for step in recipe:
        assert isinstance(step, File)
        step.follow(folder)

    # An installer copies the table of entry points out of pyproject.toml.
    table = (folder / "pyproject.toml").read_text(encoding="utf-8")
    points = table.replace('[project.entry-points."jobctl.targets"]', "[jobctl.targets]").replace('"', "")
    metadata = folder / "jobctl_pbs-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: jobctl-pbs\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(points)

    (folder / "qsub").write_text(QSUB)
    (folder / "qsub").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in [name for name in sys.modules if name.startswith("jobctl_pbs")]:
        del sys.modules[name]


def test_it_is_known_by_its_name(pbs: Path, jobctl: Invoke) -> None:
    assert registry.names()[-1] == "pbs"
    code, _, err = jobctl("render", "--model", "qwen3_smoke", "--target", "psb")
    assert code == 2
    assert "unknown target 'psb'; did you mean 'pbs'?" in err


def test_it_renders_by_a_template_of_its_own(pbs: Path, jobctl: Invoke) -> None:
    code, out, err = jobctl("render", "--model", "qwen3_smoke", "--target", "pbs")
    assert code == 0, err
    assert "#PBS -N qwen3_smoke-train" in out
    assert "jobctl.trainer.launch" in out


def test_a_training_without_a_data_set_is_refused_as_slurms_is(pbs: Path, jobctl: Invoke, root: Path) -> None:
    answers = [jobctl("submit", "--model", "qwen3_smoke", "--target", name) for name in ("pbs", "slurm")]
    # The estimate above the refusal depends on the target.
    refusals = [(code, out, err[err.index("jobctl: no data set") :]) for code, out, err in answers]
    assert refusals[0] == refusals[1]
    assert answers[0][0] == 2
    assert "no data set in" in answers[0][2]
    assert not root.exists()


def test_what_its_entry_excludes_is_refused(pbs: Path, jobctl: Invoke) -> None:
    code, _, err = jobctl("render", "--model", "qwen3_smoke", "--target", "pbs", "--nodes", "2")
    assert code == 2
    assert "the pbs target is one machine" in err


def test_a_job_is_submitted_listed_and_read(
    pbs: Path, jobctl: Invoke, root: Path, payload: Callable[[str], str]
) -> None:
    words = (
        "submit",
        "tokenizer",
        "--tokenizer",
        "gpt2",
        "--target",
        "pbs",
        "--run",
        "t",
        "--wait",
        "--json",
    )
    code, out, err = jobctl(*words, payload("echo fetched"))
    assert code == 0, err
    assert '"job_id": "1.pbs"' in out
    code, out, _ = jobctl("list", "--json")
    assert [(run["run"], run["state"], run["target"]) for run in json.loads(out)] == [
        ("t", "finished", "pbs")
    ]
    assert jobctl("logs", "t")[1] == "fetched\n"


def test_runs_of_a_target_whose_package_is_gone_do_not_end_a_list(
    pbs: Path, jobctl: Invoke, root: Path, payload: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for target, run in (("pbs", "t"), ("local", "u")):
        words = ("submit", "tokenizer", "--tokenizer", "gpt2", "--target", target, "--run", run, "--wait")
        code, _, err = jobctl(*words, payload("true"))
        assert code == 0, err
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(pbs)])
    code, out, err = jobctl("list", "--json")
    assert code == 0
    assert [(run["run"], run["state"]) for run in json.loads(out)] == [("u", "finished")]
    assert "skipped:" in err
    assert "unknown target 'pbs'" in err


@pytest.mark.parametrize("entry", ["None", "TargetEntry(name='other', module='m')"])
def test_an_entry_point_that_is_no_entry_says_so(pbs: Path, entry: str) -> None:
    (pbs / "jobctl_pbs/__init__.py").write_text(
        f"from jobctl.jobs.targets.registry import TargetEntry\nENTRY = {entry}\n"
    )
    with pytest.raises(UserError, match="jobctl_pbs:ENTRY is not a TargetEntry with that name"):
        registry.target_entry("pbs")


def test_a_package_that_cannot_be_imported_is_a_message(pbs: Path) -> None:
    (pbs / "jobctl_pbs/target.py").write_text("import nowhere_to_be_found\n")
    with pytest.raises(UserError, match=r"target 'pbs': jobctl_pbs\.target: No module named"):
        registry.load_target("pbs")


def test_a_built_in_target_is_not_replaced(pbs: Path) -> None:
    points = pbs / "jobctl_pbs-1.dist-info/entry_points.txt"
    points.write_text("[jobctl.targets]\nslurm = jobctl_pbs:ENTRY\n")
    assert registry.target_entry("slurm").module == "jobctl.slurm.target"
    assert registry.names().count("slurm") == 1
