"""Whose files a command may execute and write into, on a root that many users write.

A file is trusted when it belongs to the user or to root, is no symbolic link, and nobody else may change
it. A group may change it where the shared root itself is open to that group: whoever set the root up has
said so. ``templates/shell/ownership.sh`` does the same in a job.
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
"""Said in place of a name: any owner and any mode will do."""


class Untrusted(UserError):
    """A file that someone else has put there or may change."""


def check_run(run: Path, root: Path, trusted: Sequence[str] = ()) -> None:
    """Check a run directory below ``root`` and each file and folder in it, as ``check_owned`` does.

    But for STOP, which anyone may create, and which is removed before an attempt begins.
    """
    check_owned(run, root, trusted)
    for name in sorted(os.listdir(run)):
        if name.partition(".")[0] != "STOP":
            check_owned(run / name, root, trusted)


def check_owned(path: Path, root: Path, trusted: Sequence[str] = ()) -> None:
    """Raise Untrusted where ``path`` is a link, belongs to someone else, or may be changed by others.

    ``trusted`` names owners whom the user trusts as well; or it holds EVERYONE. A path that is gone is no
    error.
    """
    try:
        facts = os.lstat(path)
    except FileNotFoundError:
        return

    if stat.S_ISLNK(facts.st_mode):
        raise Untrusted(
            f"{path} is a symbolic link: what is written there would go elsewhere",
            hint="put a folder in its place; JOBCTL_ROOT itself may be a link",
            code=1,
        )

    if EVERYONE in trusted:
        return

    owners = {0, os.geteuid(), *(user_id(name) for name in trusted)}
    if facts.st_uid not in owners:
        raise Untrusted(
            f"{path} belongs to {user_name(facts.st_uid)}, who may have put anything there",
            hint=f"take another run; or, where you trust the owner, add --trust-owner {user_name(facts.st_uid)}",
            code=1,
        )

    if changers := _changers(facts, root):
        raise Untrusted(
            f"{path} may be changed by {changers}, and so may what you would run",
            hint=f"chmod g-w,o-w {path}; or, where you trust all of them, add --trust-owner {EVERYONE}",
            code=1,
        )


def check_link(path: Path) -> None:
    """Raise Untrusted for a link that someone else made to a file that is not that one's own.

    It could lead to a file that the reader alone may read, and whose content others would then see. Raises
    OSError where the link leads nowhere.
    """
    link = os.lstat(path)
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in (0, os.geteuid(), os.stat(path).st_uid):
        raise Untrusted(
            f"{path} is a link that {user_name(link.st_uid)} made to a file of someone else",
            hint="put a copy of the file in its place, or make the link yourself",
            code=1,
        )


def user_id(name: str) -> int:
    """Return the number of a user by name or number. Raises UserError for one that is not known here."""
    if name.isascii() and name.isdigit():
        return int(name)

    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise UserError(f"--trust-owner {name}: there is no such user on this machine") from None


def user_name(uid: int) -> str:
    """Return a user's name, or the number where this machine knows none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _changers(facts: os.stat_result, root: Path) -> str:
    """Say who may write a file besides its owner; nothing where nobody may, or the root's group alone."""
    if facts.st_mode & stat.S_IWOTH:
        return "everyone"

    if not facts.st_mode & stat.S_IWGRP or _is_private(facts) or _is_shared(facts.st_gid, root):
        return ""

    return f"group {_group_name(facts.st_gid)}"


def _is_private(facts: os.stat_result) -> bool:
    """Whether the group is the owner's alone: many systems give each user one of the same name."""
    try:
        group = grp.getgrgid(facts.st_gid).gr_name
    except KeyError:  # a container may know neither name
        return facts.st_gid == facts.st_uid

    return group == user_name(facts.st_uid)


def _is_shared(gid: int, root: Path) -> bool:
    """Whether the root is open to the group."""
    facts = root.stat()
    return bool(facts.st_mode & stat.S_IWGRP) and facts.st_gid == gid


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
