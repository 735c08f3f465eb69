"""The hash of a patched tree says what is in it, and nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from jobs.patch import describe


def git(tree: Path, *arguments: str) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(tree), *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "code.py").write_text("x = 1\n")
    (tmp_path / ".gitignore").write_text("ignored\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


def test_changes_and_new_files_change_the_hash_and_ignored_ones_do_not(tree: Path) -> None:
    clean = describe(tree)
    (tree / "ignored").write_text("anything")
    assert describe(tree) == clean
    (tree / "code.py").write_text("x = 2\n")
    changed = describe(tree)
    assert changed["revision"] == clean["revision"]
    (tree / "new.py").write_text("y = 1\n")
    added = describe(tree)
    (tree / "new.py").write_text("y = 2\n")
    hashes = {state["diff_sha256"] for state in (clean, changed, added, describe(tree))}
    assert len(hashes) == 4
    git(tree, "checkout", "--quiet", "code.py")
    (tree / "new.py").unlink()
    assert describe(tree) == clean


def test_a_tree_outside_git_has_no_revision(tmp_path: Path) -> None:
    assert describe(tmp_path) == {"tree": str(tmp_path), "revision": None, "diff_sha256": None}
