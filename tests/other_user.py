"""What another user of the same machine can do, tried in a process of that user."""

from __future__ import annotations

import os
import pwd
import traceback
from collections.abc import Callable

from jobctl.jobs.core.errors import UserError

OTHER = pwd.getpwnam("daemon")
THIRD = pwd.getpwnam("bin")


def as_other(action: Callable[[], object]) -> str:
    """Do something in a process of the other user; the message of the UserError it raised, if it did."""

    def silent() -> str:
        action()
        return ""

    return told_by_other(silent)


def told_by_other(action: Callable[[], str]) -> str:
    """What ``action`` returns in a process of the other user, or the message of the UserError it raised.

    A process of its own may not read this Python's modules; so everything has been imported before.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(OTHER.pw_gid)
            os.setuid(OTHER.pw_uid)
            said = action()
        except UserError as error:
            said = str(error)
        except BaseException:
            said = traceback.format_exc()
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    assert "Traceback" not in said, said
    return said
