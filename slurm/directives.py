"""The ``#SBATCH`` lines of a script, with every value quoted in one place.

sbatch reads a directive line with rules of its own, which are not the shell's (``src/sbatch/opt.c``): white
space separates, single or double quotes group, a bare ``#`` starts a comment, and a backslash takes the next
character as it is, inside quotes of either kind too. Nothing is expanded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from jobctl.jobs.core.errors import UserError

Value = str | int | bool | Sequence[str | int] | None
"""True is a flag without a value; None, False and what is empty leave the option out."""

MAX_COMMENT = 1024
"""Bytes that slurmctld accepts in a job's name or comment."""

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]+")
_OPTION = re.compile(r"[a-z][a-z0-9-]*")


def directives(options: Mapping[str, Value]) -> str:
    """``#SBATCH --name=value`` lines in the order given, each ended by a newline; sequences joined by commas.

    Raises UserError where a value cannot stand in a directive, ValueError for what is no option's name.
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
    """The spelling from which sbatch reads back just ``value``; raises UserError for a newline or NUL."""
    for character, word in (("\n", "a line break"), ("\0", "a NUL")):
        if character in value:
            raise UserError(
                f"{value!r} has {word} in it, which no sbatch directive can hold", hint="take it out"
            )

    if _PLAIN.fullmatch(value):
        return value

    escaped = value.replace("\\", "\\\\").replace('"', '\\"')

    return f'"{escaped}"'


def literal_path(path: str) -> str:
    """A value for ``output``, ``error`` and ``input`` that names just this file.

    Slurm replaces ``%j`` and its like there, unless a backslash occurs: then it removes one level of them and
    replaces nothing.
    """
    return path.replace("\\", "\\\\") if "\\" in path else path.replace("%", "%%")
