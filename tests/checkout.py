"""A git checkout for the tests of ``--patch``."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec

from jobctl.jobs.core import layout
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.patch import describe


def git(tree: Path, *arguments: str) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(tree), *who, *arguments], check=True, capture_output=True)


def checkout(tree: Path, trainer: str) -> Path:
    """``tree``, made a checkout whose trainer is the Python text ``trainer``."""
    (tree / "trainer").mkdir(parents=True)
    (tree / "src/jobctl").mkdir(parents=True)
    (tree / "src/jobctl/__init__.py").write_text("")
    (tree / "src/jobctl/trainer").symlink_to("../../trainer")
    (tree / ".dockerignore").write_text("*\n!trainer\n!src\n**/.env*\n")
    (tree / "trainer/__init__.py").write_text("")
    (tree / "trainer/launch.py").write_text(trainer)
    git(tree, "init", "--quiet")
    git(tree, "add", ".")
    git(tree, "commit", "--quiet", "--message", "first")
    return tree


def patched(spec: JobSpec, tree: Path) -> JobSpec:
    """Return ``spec`` as ``resolve`` makes it of a submission with ``tree`` as its patch."""
    assert spec.run is not None
    folder = layout.code_dir(layout.run_dir(Path(spec.site.root), spec.run))
    site = msgspec.structs.replace(spec.site, project_dir=str(folder))
    return msgspec.structs.replace(spec, patch=describe(tree), site=site)
