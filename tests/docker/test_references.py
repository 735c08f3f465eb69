"""The digest of a base image goes into its variant's file; a registry that is silent changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jobctl.docker import references, variants

DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the variants, and a PATH with bash alone."""
    for file in variants.FOLDER.glob("*.env"):
        shutil.copy(file, tmp_path)

    monkeypatch.setattr(variants, "FOLDER", tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "bash").symlink_to(str(shutil.which("bash")))
    monkeypatch.setenv("PATH", str(programs))
    return tmp_path


def skopeo(folder: Path, body: str) -> None:
    program = folder / "programs/skopeo"
    program.write_text(f"#!/bin/bash\n{body}\n")
    program.chmod(0o755)


def test_the_registry_is_asked_for_the_base_of_the_variant(folder: Path) -> None:
    skopeo(folder, f'[ "$3" = "docker://{variants.read("cpu")["BASE"]}" ] && echo {DIGEST}')
    before = variants.read("cpu")
    references.fill_in("cpu")
    assert variants.read("cpu") == before | {"BASE_DIGEST": DIGEST}


@pytest.mark.parametrize("body", ["exit 1", None], ids=["refused", "not installed"])
def test_a_registry_that_is_not_reached_leaves_the_digest(
    folder: Path, capsys: pytest.CaptureFixture[str], body: str | None
) -> None:
    variants.set_value("cpu", "BASE_DIGEST", "sha256:old")
    if body is not None:
        skopeo(folder, body)

    references.fill_in("cpu")
    assert variants.read("cpu")["BASE_DIGEST"] == "sha256:old"
    assert "cpu: BASE " in capsys.readouterr().err
