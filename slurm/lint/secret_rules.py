"""Find secrets in a script. Slurm keeps the text, and shows it to the site's administrators."""

from __future__ import annotations

import re
from collections.abc import Iterator

from jobctl.slurm.lint.finding import Finding, error, hint
from jobctl.slurm.lint.script import Script

KNOWN = re.compile(
    r"(?<![\w-])(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|glpat-[\w-]{20,}|"
    r"AKIA[0-9A-Z]{16}|xox[bp]-[\w-]{20,})"
)
"""The form of the tokens of well-known services."""
_ASSIGNED = re.compile(
    r"(?<![\w-])((?:[A-Za-z0-9]+_)*(?:TOKEN|API_?KEY|SECRET(?:_\w*KEY)?|PASSWORD|PASSWD))=[\"']?([^\s\"';,]+)",
    re.I,
)
_PLACEHOLDER = re.compile(
    r"(?i)your|<|>|xxx|\.\.\.|…|changeme|example|placeholder|none|null|todo|\*\*|insert|replace"
)
_FIX = "export it before sbatch, or read it from a file of mode 600"


def _secrets(script: Script) -> Iterator[Finding]:
    # Each line: Slurm keeps comments and here-documents as well as commands.
    for line, text in enumerate(script.lines, 1):
        if (match := _ASSIGNED.search(text)) and is_secret(match[2]):
            message = f"{match[1]}: Slurm keeps scripts, and scontrol write batch_script shows them"
            yield error(line, "secret", message, _FIX)
            continue

        match = KNOWN.search(text)
        if match and not _PLACEHOLDER.search(match[0]):
            message = f"a token ({match[0][:3]}…): Slurm keeps scripts, and ps shows command lines"
            yield error(line, "secret", message, _FIX)


def is_secret(value: str) -> bool:
    """Return True if a value looks like a secret itself, and not like a path, a variable or a placeholder."""
    if (
        value.startswith(("/", "$", "~", "./", "`", "(", "http"))
        or "/" in value
        or _PLACEHOLDER.search(value)
    ):
        return False

    if KNOWN.search(value):
        return True

    # Random tokens are long, and have letters and digits. Words such as `true` or `disabled` are not.
    has_digit = any(character.isdigit() for character in value)
    has_letter = any(character.isalpha() for character in value)
    return len(value) >= 16 and has_digit and has_letter


def _xtrace(script: Script) -> Iterator[Finding]:
    for command in script.find(r"^\s*set\s+-\w*x|^\s*set\s+-o\s+xtrace"):
        message = "writes every value into the log, also the values of tokens"
        yield hint(command.line, "xtrace", message, "remove it")
        break


RULES = (_secrets, _xtrace)
