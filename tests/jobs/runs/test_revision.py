"""The revision in a run's record."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.runs import revision
from tests.checkout import git


def test_a_checkout_has_a_revision_that_says_whether_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revision, "FOLDER", tmp_path)
    assert revision.git_revision() is None

    (tmp_path / "revision.py").write_text("a")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    clean = revision.git_revision()
    assert clean
    assert len(clean) == 40

    (tmp_path / "revision.py").write_text("b")
    assert revision.git_revision() == f"{clean}-dirty"


def test_an_installed_package_has_no_revision_of_the_project_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text(".venv\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    package = tmp_path / ".venv" / "jobctl"
    package.mkdir(parents=True)
    (package / "revision.py").write_text("a")
    monkeypatch.setattr(revision, "FOLDER", package)
    assert revision.git_revision() is None
