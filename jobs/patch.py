"""Code that a job runs in the place of the image's: which tree it was, what was changed in it, and a copy of it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import msgspec

from jobs.catalog.errors import UserError

SOURCE = Path(__file__).parent.parent
"""The source tree that jobctl itself runs from."""


class Patch(msgspec.Struct, frozen=True, kw_only=True):
    """A source tree as it was when a job was submitted."""

    tree: str
    revision: str
    """The commit that is checked out."""
    diff_sha256: str
    """Hash of all that differs from it, new files included."""


def describe(tree: Path) -> Patch:
    """Raises UserError where ``tree`` is no checkout."""
    revision = _git(tree, "rev-parse", "HEAD").decode().strip()
    diff = hashlib.sha256(_git(tree, "diff", "--binary", "HEAD"))
    for name in sorted(_names(tree, "--others")):
        diff.update(b"\0" + name + b"\0" + _path(tree, name).read_bytes())
    return Patch(tree=str(tree), revision=revision, diff_sha256=diff.hexdigest())


def ship(tree: Path, into: Path) -> None:
    """Copy to ``into`` what an image is made of: what is edited later changes neither this job nor its resumption.

    Raises UserError where ``tree`` is no checkout or ``into`` cannot be written.
    """
    aside = into.with_name(f".{into.name}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        for name in _names(tree, "--cached", "--others", *_secrets(tree), "--", *_parts(tree)):
            target = _path(aside, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_path(tree, name), target)
        shutil.rmtree(into, ignore_errors=True)
        aside.rename(into)
    except OSError as error:
        raise UserError(f"{tree} cannot be copied to {into}: {error}", code=1) from None


def _parts(tree: Path) -> list[str]:
    """The folders that a build of the image is given."""
    return [rule[1:] for rule in _rules(tree) if rule.startswith("!")]


def _secrets(tree: Path) -> list[str]:
    """git's options that leave out what a build is not given though it lies in such a folder: keys, environments."""
    return [f"--exclude={rule}" for rule in _rules(tree) if rule.startswith("**/")]


def _rules(tree: Path) -> list[str]:
    return (tree / ".dockerignore").read_text(encoding="utf-8").splitlines()


def _names(tree: Path, *which: str) -> list[bytes]:
    """Files of ``tree`` that git does not ignore and that are there."""
    listed = _git(tree, "ls-files", "--exclude-standard", "-z", *which).split(b"\0")
    return [name for name in listed if name and _path(tree, name).is_file()]


def _path(folder: Path, name: bytes) -> Path:
    return folder / name.decode(errors="surrogateescape")


def _git(tree: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", "-C", str(tree), *arguments], capture_output=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        raise UserError(
            f"--patch: {tree} is not a git checkout", hint="run the jobctl of a checkout (README)"
        ) from None
    return done.stdout
