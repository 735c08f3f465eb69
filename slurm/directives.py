"""The ``#SBATCH`` lines of a script. This module quotes every value.

sbatch does not read a directive line by the shell's rules (``src/sbatch/opt.c``). White space separates
words, and single or double quotes group them. A bare ``#`` starts a comment. A backslash takes the next
character literally, also inside both kinds of quotes. Nothing is expanded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from jobctl.jobs.core.errors import UserError

Value = str | int | bool | Sequence[str | int] | None
"""True is a flag without a value. None, False and empty values leave the option out."""

MAX_COMMENT = 1024
"""The largest number of bytes that slurmctld accepts in a job's name or comment."""

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]+")
_OPTION = re.compile(r"[a-z][a-z0-9-]*")


def directives(options: Mapping[str, Value]) -> str:
    """Return the lines ``#SBATCH --name=value`` in the given order. Commas join the items of a sequence.

    A newline ends each line. Raises UserError if a value cannot be in a directive, and ValueError for an
    invalid name of an option.
    """
    return "".join(f"#SBATCH {line}\n" for line in (_option(n, v) for n, v in options.items()) if line)


def _option(name: str, value: Value) -> str:
    if not _OPTION.fullmatch(name):
        raise ValueError(f"not the long name of an sbatch option: {name!r}")

    if value is True:
        return f"--{name}"

    if value is None or value is False or value == "":
        return ""

    if not isinstance(value, (str, int)):
        if not value:
            return ""

        value = ",".join(str(item) for item in value)

    try:
        return f"--{name}={quote_directive(str(value))}"
    except UserError as problem:
        raise UserError(f"--{name}: {problem.message}", hint=problem.hint) from None


def quote_directive(value: str) -> str:
    """Return the spelling that sbatch reads as exactly ``value``. Raises UserError for a newline or NUL."""
    for character, word in (("\n", "a line break"), ("\0", "a NUL")):
        if character in value:
            raise UserError(
                f"{value!r} contains {word}, which an sbatch directive cannot contain", hint="remove it"
            )

    if _PLAIN.fullmatch(value):
        return value

    escaped = value.replace("\\", "\\\\").replace('"', '\\"')

    return f'"{escaped}"'


def literal_path(path: str) -> str:
    """Return a value for ``output``, ``error`` and ``input`` that names exactly this file.

    Slurm replaces ``%j`` and similar patterns there, unless a backslash occurs. Then it removes one level of
    backslashes and replaces nothing.
    """
    return path.replace("\\", "\\\\") if "\\" in path else path.replace("%", "%%")
