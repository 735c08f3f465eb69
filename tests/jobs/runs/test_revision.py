"""The revision in a run's record."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jobctl.jobs.runs import revision
from tests.checkout import git

WEIGHTS = revision.COMPARED_BYTES + 10


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose package links to a folder beside it, as this one does."""
    top = tmp_path / "checkout"
    (top / "src" / "jobctl").mkdir(parents=True)
    (top / "src" / "jobctl" / "__init__.py").write_text("")
    (top / "jobs").mkdir()
    (top / "jobs" / "runs.py").write_text("a")
    (top / "jobs" / "old.py").write_text("a")
    (top / "src" / "jobctl" / "jobs").symlink_to("../../jobs")
    (top / "README.md").write_text("a")
    (top / ".gitignore").write_text("__pycache__\n")
    git(top, "init", "--quiet")
    git(top, "add", ".")
    git(top, "commit", "--quiet", "--message", "first")
    monkeypatch.setattr(revision, "PACKAGE", top / "src" / "jobctl")

    return top


def revision_of(top: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(revision, "PACKAGE", top / "src" / "jobctl")
    text = revision.git_revision()
    assert text
    return text


def test_a_checkout_has_a_revision_that_says_whether_it_was_changed(checkout: Path) -> None:
    clean = revision.git_revision()
    assert clean
    assert len(clean) == 40

    (checkout / "jobs" / "runs.py").write_text("b")
    changed = revision.git_revision()
    assert changed
    assert changed.startswith(f"{clean}-dirty-")


def test_two_changed_checkouts_are_told_apart_by_what_is_in_them(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = checkout.with_name("other")
    shutil.copytree(checkout, other, symlinks=True)
    assert revision_of(checkout, monkeypatch) == revision_of(other, monkeypatch)

    for change in (changed, new, removed, long):
        change(checkout)
        assert revision_of(checkout, monkeypatch) != revision_of(other, monkeypatch), change

        change(other)
        assert revision_of(checkout, monkeypatch) == revision_of(other, monkeypatch), change


def changed(top: Path) -> None:
    (top / "jobs" / "runs.py").write_text("b")


def new(top: Path) -> None:
    (top / "jobs" / "not yet é\n.py").write_text("b")


def removed(top: Path) -> None:
    (top / "jobs" / "old.py").unlink()


def long(top: Path) -> None:
    (top / "jobs" / "weights").write_bytes(b"\0" * WEIGHTS)


def test_only_the_package_counts(checkout: Path) -> None:
    """A note or a byte-compiled file on one of two machines makes no other source."""
    clean = revision.git_revision()
    (checkout / "README.md").write_text("b")
    (checkout / "notes.txt").write_text("b")
    (checkout / "jobs" / "__pycache__").mkdir()
    (checkout / "jobs" / "__pycache__" / "runs.pyc").write_text("b")
    assert revision.git_revision() == clean


def test_outside_a_checkout_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setattr(revision, "PACKAGE", tmp_path)
    assert revision.git_revision() is None


def test_an_installed_package_has_no_revision_of_the_project_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text(".venv\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    package = tmp_path / ".venv" / "jobctl"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("a")
    monkeypatch.setattr(revision, "PACKAGE", package)
    assert revision.git_revision() is None
