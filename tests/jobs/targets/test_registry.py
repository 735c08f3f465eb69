"""No file but the registry decides by the name of a target."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import jobctl.jobs
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.targets.registry import BUILT_IN, TargetEntry, load_target, target_entry

JOBS = Path(jobctl.jobs.__file__).parent
NAMES = {entry.name for entry in BUILT_IN}
BRANCHES = (ast.Compare, ast.Dict, ast.Match)


@pytest.mark.parametrize("entry", BUILT_IN, ids=lambda entry: entry.name)
def test_an_entry_leads_to_a_target_with_the_methods_of_the_protocol(entry: TargetEntry) -> None:
    target = load_target(entry.name)
    assert target_entry(entry.name) is entry
    for method in ("render", "submit", "statuses", "cancel", "logs"):
        assert callable(getattr(target, method))


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown target 'slrum'; did you mean 'slurm'"):
        load_target("slrum")


def test_no_other_file_decides_by_the_name_of_a_target() -> None:
    # The schema names the sections of a site, and one of them is called like its target.
    files = [f for f in JOBS.rglob("*.py") if f.name != "registry.py" and f.parent.name != "schema"]
    assert len(files) > 30
    assert [place for file in files for place in _decisions(file)] == ["docker.py"], (
        "only the Docker target knows Docker, which is also the name of an engine"
    )


def _decisions(file: Path) -> list[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    branches = (node for node in ast.walk(tree) if isinstance(node, BRANCHES))
    constants = (part for node in branches for part in ast.walk(node) if isinstance(part, ast.Constant))
    return [file.name for part in constants if part.value in NAMES]
