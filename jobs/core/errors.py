"""The one kind of error that a user's choice can cause."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

from jobctl.jobs.core.text import visible


class UserError(Exception):
    """What is wrong, where, and what to do. Entry points print it without a traceback and exit with ``code``.

    ``hint`` is the next command or edit that would help. Code 2 is wrong usage or configuration.
    """

    def __init__(self, message: str, *, hint: str = "", code: int = 2) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


SHORT_LIST = 12
"""A list of up to so many names is printed whole."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean X?`` for the nearest known word, else the known words: the likest three of many."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"

    if len(names) <= SHORT_LIST:
        return f"known: {', '.join(names)}"

    likest = difflib.get_close_matches(word, names, n=3, cutoff=0.0)
    return f"the nearest of {len(names)} names: {', '.join(likest)}"


def run_command(main: Callable[[], int], speaker: str = "error") -> NoReturn:
    """Leave the process with the code of ``main``, or with an error's code after printing its message."""
    if sys.stdout is None:  # the caller closed it: whoever prints all the same must not fail
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115

    try:
        code = main()
        sys.stdout.flush()
    except UserError as error:
        print(visible(f"{speaker}: {error}"), file=sys.stderr)
        code = error.code
    except BrokenPipeError:  # the reader of our output has gone, and so has the need to say more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except OSError as error:  # a full disk, a file of somebody else's
        reason = f"{error.filename or 'file system'}: {error.strerror or error}"
        print(visible(f"{speaker}: {reason}"), file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    except ModuleNotFoundError as error:
        from jobctl.jobs.core.extras import missing_package

        if (missing := missing_package(error)) is None:
            raise

        print(visible(f"{speaker}: {missing}"), file=sys.stderr)
        code = missing.code

    sys.exit(code)
