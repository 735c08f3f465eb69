"""Mounts of a container, in the form that a site uses: ``SOURCE:TARGET[:FLAGS]``."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from jobctl.jobs.core.errors import UserError


def split_mount(text: str) -> list[str]:
    """Return source, target and flags of a mount. Without a target, the target is the source's path."""
    source, _, rest = text.partition(":")
    target, *flags = rest.split(":") if rest else [source]
    return [source, target, *flags]


def place_of(path: str) -> str:
    """Return one standard spelling of an absolute path: ``//a/./b/`` becomes ``/a/b``.

    So two mounts can be compared.
    """
    # Put one slash at the front: normpath keeps two, because POSIX allows them another meaning.
    return posixpath.normpath(f"/{path.lstrip('/')}") if path.startswith("/") else path


def check_places(mounts: Iterable[str]) -> None:
    """Raise UserError for two mounts at one place. A program would mount only one of them, or neither."""
    taken: dict[str, str] = {}
    for mount in mounts:
        place = place_of(split_mount(mount)[1])
        if place in taken:
            raise UserError(
                f"container.mounts {mount!r}: {taken[place]!r} is already mounted at {place}",
                hint="choose another path in the container; jobctl mounts the root and the source itself",
            )

        taken[place] = mount
