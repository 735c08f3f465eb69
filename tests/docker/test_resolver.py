"""uv gets a date, hashes and constraints, and no list of an earlier time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jobctl.docker.resolver import resolve
from jobctl.jobs.core.errors import UserError

DATE = "2026-11-28T00:00:00Z"


@pytest.fixture
def requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A list to resolve, and a PATH with bash and cat alone."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("bash", "cat"):
        (programs / name).symlink_to(str(shutil.which(name)))

    monkeypatch.setenv("PATH", str(programs))
    file = tmp_path / "requirements.in"
    file.write_text("numpy\n")
    return file


def uv(requirements: Path, body: str) -> None:
    program = requirements.parent / "programs/uv"
    program.write_text(f"#!/bin/bash\n{body}\n")
    program.chmod(0o755)


def test_uv_resolves_as_of_a_date_with_hashes_and_without_an_old_list(requirements: Path) -> None:
    uv(requirements, 'printf "%s\\n" "$@"')
    words = resolve(requirements, DATE, ["--python-version=3.11"]).splitlines()
    assert words[:3] == ["pip", "compile", str(requirements)]
    assert f"--exclude-newer={DATE}" in words
    assert "--generate-hashes" in words
    assert words[-1] == "--python-version=3.11"
    assert not [word for word in words if word.startswith(("-o", "--output"))]


def test_the_constraints_are_a_file_that_uv_can_read(requirements: Path) -> None:
    uv(requirements, 'for word in "$@"; do case $word in --constraint=*) cat "${word#*=}";; esac; done')
    assert resolve(requirements, DATE, [], constraints="torch==2.11\n") == "torch==2.11\n"


def test_what_uv_says_of_a_failure_is_passed_on(requirements: Path) -> None:
    uv(requirements, "echo 'no solution: numpy<1 and numpy>2' >&2; exit 1")
    with pytest.raises(UserError, match=r"uv pip compile requirements.in: no solution") as error:
        resolve(requirements, DATE, [])
    assert error.value.code == 1


def test_a_machine_without_uv_is_told_how_to_get_it(requirements: Path) -> None:
    with pytest.raises(UserError, match=r"uv is not installed\n  make pin installs it"):
        resolve(requirements, DATE, [])
