"""Check who owns the files that a command executes or writes, in a root that many users share.

A file is trusted if it belongs to the user or to root, is not a symbolic link, and nobody else may change
it. A group may change it if the shared root itself is writable for that group. The person who set up the root
decided that. ``templates/shell/ownership.sh`` does the same in a job.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Sequence
from pathlib import Path

from jobctl.jobs.core.errors import UserError

EVERYONE = "everyone"
"""The word that means: trust any owner and any mode."""


class Untrusted(UserError):
    """A file that another user made or can change."""


def check_run(run: Path, root: Path, trusted: Sequence[str] = ()) -> None:
    """Check a run directory below ``root``, and each file and folder in it, as ``check_owned`` does.

    STOP is not checked: anyone may create it, and each attempt removes it before it begins.
    """
    check_owned(run, root, trusted)
    for name in sorted(os.listdir(run)):
        if name.partition(".")[0] != "STOP":
            check_owned(run / name, root, trusted)


def check_owned(path: Path, root: Path, trusted: Sequence[str] = ()) -> None:
    """Raise Untrusted if ``path`` is a link, belongs to another user, or may be changed by others.

    ``trusted`` names further owners whom the user trusts, or contains EVERYONE. A missing path is not an
    error.
    """
    try:
        facts = os.lstat(path)
    except FileNotFoundError:
        return

    # Check this first, even for EVERYONE. A link can lead out of the root, to a private file of the user.
    if stat.S_ISLNK(facts.st_mode):
        raise Untrusted(
            f"{path} is a symbolic link, so jobctl would write to another place",
            hint="replace the link with a folder; only JOBCTL_ROOT itself may be a link",
            code=1,
        )

    if EVERYONE in trusted:
        return

    # root can change every file anyway.
    owners = {0, os.geteuid(), *(user_id(name) for name in trusted)}
    if facts.st_uid not in owners:
        raise Untrusted(
            f"{path} belongs to {user_name(facts.st_uid)}, who can put any code into it",
            hint=f"use another run; if you trust the owner, add --trust-owner {user_name(facts.st_uid)}",
            code=1,
        )

    if changers := _changers(facts, root):
        raise Untrusted(
            f"{changers} can change {path}, and so the code that you would run",
            hint=f"chmod g-w,o-w {path}; if you trust all of them, add --trust-owner {EVERYONE}",
            code=1,
        )


def check_link(path: Path) -> None:
    """Raise Untrusted for a link of another user to a file that does not belong to that user.

    It could lead to a private file of the reader, and others would then see its content. Raises OSError if
    the target of the link does not exist.
    """
    link = os.lstat(path)
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in (0, os.geteuid(), os.stat(path).st_uid):
        raise Untrusted(
            f"{path} is a link that {user_name(link.st_uid)} made to a file of someone else",
            hint="replace the link with a copy of the file, or make the link yourself",
            code=1,
        )


def user_id(name: str) -> int:
    """Return the numeric id of a user. ``name`` is a name or a number.

    Raises UserError if this machine does not know the name.
    """
    if name.isascii() and name.isdigit():
        return int(name)

    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise UserError(f"--trust-owner {name}: this machine has no such user") from None


def user_name(uid: int) -> str:
    """Return the name of a user, or the number if this machine knows no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _changers(facts: os.stat_result, root: Path) -> str:
    """Return the others who may write a file. Return "" for only its owner or the root's group."""
    if facts.st_mode & stat.S_IWOTH:
        return "everyone"

    if not facts.st_mode & stat.S_IWGRP or _is_private(facts) or _is_shared(facts.st_gid, root):
        return ""

    return f"group {_group_name(facts.st_gid)}"


def _is_private(facts: os.stat_result) -> bool:
    """Return whether the group is private. Many systems give each user a group of the same name."""
    try:
        group = grp.getgrgid(facts.st_gid).gr_name
    except KeyError:  # a container may know neither name
        return facts.st_gid == facts.st_uid

    return group == user_name(facts.st_uid)


def _is_shared(gid: int, root: Path) -> bool:
    """Return whether the shared root itself is writable for the group."""
    facts = root.stat()
    return bool(facts.st_mode & stat.S_IWGRP) and facts.st_gid == gid


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
