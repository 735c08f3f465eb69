"""The code that a job runs instead of the image's code. Describe a source tree, and copy it for the job."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import msgspec

from jobctl.jobs.core.errors import UserError

SOURCE = Path(__file__).resolve().parents[2]
"""The source tree from which jobctl itself runs."""


class Patch(msgspec.Struct, frozen=True, kw_only=True):
    """A source tree as it was when a job was submitted."""

    tree: str
    revision: str
    """The commit that is checked out."""
    diff_sha256: str
    """The hash of all changes since that commit, including new files."""


def describe(tree: Path) -> Patch:
    """Describe the checkout ``tree``. Raises UserError if it is not a checkout."""
    revision = _git(tree, "rev-parse", "HEAD").decode().strip()
    diff = hashlib.sha256(_git(tree, "diff", "--binary", "HEAD"))
    for name in sorted(_names(tree, "--others")):
        # `git diff` leaves out new files. The zero bytes separate a name from a content.
        diff.update(b"\0" + name + b"\0" + _content(_path(tree, name)))

    return Patch(tree=str(tree), revision=revision, diff_sha256=diff.hexdigest())


def ship(tree: Path, into: Path) -> None:
    """Copy the files of an image from ``tree`` to ``into``, so that a later edit does not change the job.

    Raises UserError if ``tree`` is not a checkout or ``into`` cannot be written.
    """
    aside = into.with_name(f".{into.name}")
    # A copy that was interrupted may have left files that the tree no longer has.
    shutil.rmtree(aside, ignore_errors=True)
    try:
        for name in _names(tree, "--cached", "--others", *_secrets(tree), "--", *_parts(tree)):
            target = _path(aside, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(_path(tree, name), target, tree)

        # Remove the old tree only when the new copy is complete.
        shutil.rmtree(into, ignore_errors=True)
        aside.rename(into)
    except OSError as error:
        raise UserError(f"{tree} cannot be copied to {into}: {error}", code=1) from None


def _parts(tree: Path) -> list[str]:
    """Return the folders that go into an image."""
    return [rule[1:] for rule in _rules(tree) if rule.startswith("!")]


def _secrets(tree: Path) -> list[str]:
    """Return git's options that leave out private files, such as keys and environments."""
    return [f"--exclude={rule}" for rule in _rules(tree) if rule.startswith("**/")]


def _rules(tree: Path) -> list[str]:
    # The image and the copy use one list: a file that is kept out of an image is kept out of a run directory.
    return (tree / ".dockerignore").read_text(encoding="utf-8").splitlines()


def _names(tree: Path, *which: str) -> list[bytes]:
    """Return the existing files of ``tree`` that git does not ignore."""
    listed = _git(tree, "ls-files", "--exclude-standard", "-z", *which).split(b"\0")
    return [name for name in listed if name and _is_content(_path(tree, name))]


def _is_content(path: Path) -> bool:
    """Return whether ``path`` is a file or a link. git keeps a link like a file."""
    return path.is_symlink() or path.is_file()


def _content(path: Path) -> bytes:
    """Return the bytes that git would keep of ``path``: the file's content, or the target of a link."""
    return os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes()


def _copy(source: Path, target: Path, tree: Path) -> None:
    """Copy a file, or a link whose target lies inside ``tree``. Raises UserError for any other link."""
    if not source.is_symlink():
        shutil.copyfile(source, target)
        return

    link = os.readlink(source)
    if os.path.isabs(link) or not source.resolve().is_relative_to(tree.resolve()):
        raise UserError(
            f"--patch: {source} is a link to {link}, outside the checkout", hint="remove the link"
        )

    target.symlink_to(link)


def _path(folder: Path, name: bytes) -> Path:
    return folder / name.decode(errors="surrogateescape")


def _git(tree: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", "-C", str(tree), *arguments], capture_output=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        raise UserError(
            f"--patch: {tree} is not a git checkout", hint="install jobctl from a git checkout (README)"
        ) from None

    return done.stdout
