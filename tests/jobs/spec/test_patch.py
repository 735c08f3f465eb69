"""The hash of a patched tree says what is in it, and a patched run has its own copy of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs import store as runs
from jobctl.jobs.spec.patch import describe, ship
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.jobs.submission import submit
from tests.checkout import git


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
    assert changed.revision == clean.revision
    (tree / "new.py").write_text("y = 1\n")
    added = describe(tree)
    (tree / "new.py").write_text("y = 2\n")
    hashes = {state.diff_sha256 for state in (clean, changed, added, describe(tree))}
    assert len(hashes) == 4
    git(tree, "checkout", "--quiet", "code.py")
    (tree / "new.py").unlink()
    assert describe(tree) == clean


def test_a_tree_outside_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a git checkout"):
        describe(tmp_path)


def add_trainer(tree: Path) -> None:
    """What a build is given, changed and new files among it."""
    (tree / ".dockerignore").write_text("*\n!trainer\n**/.env*\n")
    (tree / "trainer").mkdir()
    (tree / "trainer/__init__.py").write_text("")
    (tree / "trainer/loop.py").write_text("old = 1\n")
    git(tree, "add", ".")
    git(tree, "commit", "--quiet", "--message", "trainer")
    (tree / "trainer/loop.py").write_text("new = 1\n")
    (tree / "trainer/extra.py").write_text("")
    (tree / "trainer/ignored").write_text("")
    (tree / "trainer/.env").write_text("TOKEN=sesame\n")
    (tree / "trainer/__init__.py").unlink()


def test_what_is_shipped_is_the_tree_as_it_stands_without_what_git_or_a_build_ignores(
    tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    add_trainer(tree)
    into = tmp_path_factory.mktemp("run") / "code"
    ship(tree, into)
    shipped = {str(file.relative_to(into)): file.read_text() for file in into.rglob("*") if file.is_file()}
    assert shipped == {"trainer/loop.py": "new = 1\n", "trainer/extra.py": ""}
    assert list(into.parent.iterdir()) == [into]


def test_a_link_inside_the_tree_is_shipped_and_one_that_leaves_it_is_refused(
    tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    add_trainer(tree)
    (tree / "trainer/alias").symlink_to("loop.py")
    before = describe(tree)
    into = tmp_path_factory.mktemp("run") / "code"
    ship(tree, into)
    assert (into / "trainer/alias").readlink() == Path("loop.py")

    (tree / "trainer/alias").unlink()
    (tree / "trainer/alias").symlink_to("/etc/passwd")
    assert describe(tree).diff_sha256 != before.diff_sha256
    with pytest.raises(UserError, match="outside the checkout"):
        ship(tree, into)


def test_a_patched_run_has_its_own_copy_and_the_hash_in_its_record(
    tree: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who goes on editing changes neither the run nor its resumption."""
    monkeypatch.setattr("jobctl.jobs.targets.local.LocalTarget.submit", lambda *_: "1")
    add_trainer(tree)
    root = tmp_path_factory.mktemp("root")
    spec = resolve(Choices(model="qwen3_smoke", run="r"), version="0", root=str(root)).spec
    hash_without = spec.fingerprint()
    choices = Choices(model="qwen3_smoke", run="r", patch=describe(tree))
    spec = resolve(choices, version="0", root=str(root), stamp="now").spec
    assert spec.fingerprint() == hash_without
    submit(spec)
    (tree / "trainer/loop.py").write_text("later = 1\n")
    code = root / "runs/r/code"
    assert (code / "trainer/loop.py").read_text() == "new = 1\n"
    assert f"use_code_in {code}\n" in (root / "runs/r/script").read_text()
    record = runs.read(root, "r").record
    assert record.spec.patch == spec.patch
    assert record.spec_hash == hash_without
    assert record.spec.patch != describe(tree)
