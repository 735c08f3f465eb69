"""The error for everything that a user can cause and repair."""

from __future__ import annotations

import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

from jobctl.jobs.core.text import visible


class UserError(Exception):
    """An error for the user. It says what is wrong, in which place, and what to do.

    Entry points print it without a traceback and exit with ``code``. ``hint`` is the next command or edit
    that would help. Code 2 means wrong usage or configuration.
    """

    def __init__(self, message: str, *, hint: str = "", code: int = 2) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class NotConfigured(UserError):
    """A cluster that this host cannot reach with its present configuration.

    An example is a context that the kubeconfig does not have. A retry does not help. The user must change the
    command or the configuration.
    """


SHORT_LIST = 12
"""A list of at most this many names is printed in full."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean X?`` if a known word is similar. Otherwise return the known words.

    If there are many known words, return the three most similar ones.
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"

    if len(names) <= SHORT_LIST:
        return f"known: {', '.join(names)}"

    # Without a cutoff there are always three names to show.
    likest = difflib.get_close_matches(word, names, n=3, cutoff=0.0)
    return f"the nearest of {len(names)} names: {', '.join(likest)}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error from another library, or its type if it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def why_not(error: OSError, place: object = "") -> str:
    """Return the reason of a system error, with ``place``, or else with the file that the error names."""
    where = place or error.filename
    if error.errno == errno.ENOSPC:
        return f"the disk of {where} is full" if where else "a disk is full"

    if error.errno == errno.EDQUOT:
        return f"the quota of the disk of {where} is used up" if where else "the quota of a disk is used up"

    return f"{where}: {error.strerror or error}" if where else str(error.strerror or error)


def _flush_output() -> None:
    """Flush stdout. Raise an OSError that names stdout, and make a later flush succeed."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # Python flushes again at its exit, and would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        error.filename = "the standard output"
        raise


def run_command(main: Callable[[], int], speaker: str = "jobctl") -> NoReturn:
    """Exit with the code that ``main`` returns. On an error, print its message and exit with its code."""
    if sys.stdout is None:
        # The caller has closed stdout (`>&-`). A later print must not fail.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115

    try:
        code = main()
        # Flush now. At its exit Python would report a full disk or a closed pipe with a traceback.
        _flush_output()
    except UserError as error:
        print(visible(f"{speaker}: {error}"), file=sys.stderr)
        code = error.code
    except BrokenPipeError:
        # The reader of our output has ended (`| head`). Python flushes stdout again at its exit, so it gets
        # another file.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141  # 128 + SIGPIPE, as other programs end here
    except OSError as error:
        # For example a full disk, or a file of another user.
        print(visible(f"{speaker}: {why_not(error)}"), file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130  # 128 + SIGINT
    except ModuleNotFoundError as error:
        # Imported here, because extras imports this module.
        from jobctl.jobs.core.extras import missing_package

        if (missing := missing_package(error)) is None:
            raise

        print(visible(f"{speaker}: {missing}"), file=sys.stderr)
        code = missing.code

    sys.exit(code)
