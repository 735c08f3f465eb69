"""The names that settings may not use are just those that bash owns or that a template assigns."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.render import TEMPLATES
from jobctl.jobs.spec.reserved import MAY_BE_SET, OF_THE_SCRIPT, is_reserved
from tests.jobs.spec.test_resolution import spec_of

NAME = "[A-Z][A-Z0-9_]*"


def assigned() -> Iterator[str]:
    """Upper-case names that a line of shell in the templates assigns or reads into."""
    for file in (*TEMPLATES.rglob("*.sh"), *TEMPLATES.rglob("*.sh.j2")):
        lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
        text = "\n".join(lines)
        yield from re.findall(rf"\b({NAME})\+?=", text)
        yield from re.findall(rf"(?:mapfile -t|read -r) ({NAME})", text)


def test_what_a_template_assigns_is_reserved() -> None:
    names = set(assigned())
    assert sorted(name for name in names - MAY_BE_SET if not is_reserved(name)) == []
    assert len(names) > 50
    assert sorted(OF_THE_SCRIPT - names) == [], "a name that no template uses any more"


def test_what_bash_owns_is_reserved() -> None:
    command = ["env", "-i", "bash", "--norc", "--noprofile", "-c", "compgen -v"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "UID" in names
    assert sorted(name for name in set(names) - MAY_BE_SET if not is_reserved(name)) == []


@pytest.mark.parametrize("name", ["UID", "HOSTS", "END", "STOP", "JOB_X", "EXIT_USAGE", "JOB_SRUN_OPTIONS"])
def test_a_reserved_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"env: the job's script or bash sets {name} and needs"):
        spec_of(sets=(f"env.{name}=1",))


@pytest.mark.parametrize("name", ["PATH", "PYTHONPATH", "NCCL_DEBUG", "ENDPOINT"])
def test_other_names_pass(name: str) -> None:
    assert spec_of(sets=(f"env.{name}=1",)).site.env == {name: "1"}
