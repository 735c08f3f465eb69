"""Mistakes in the directives of a script."""

from __future__ import annotations

import re
from collections.abc import Iterator

from jobctl.slurm.lint.finding import Finding, error, hint, warning
from jobctl.slurm.lint.script import Script

MEMORY = ("mem", "mem-per-cpu", "mem-per-gpu")
_OF_A_TASK = re.compile(r"%\d*[ajJs]|^/dev/null$|%\d*A.*%\d*a")


def _first_line(script: Script) -> Iterator[Finding]:
    # A script that writes the scripts of other jobs need not be one itself.
    generates = script.generates and not script.directives
    if not generates and not (script.lines and script.lines[0].startswith("#!")):
        yield error(1, "shebang", "sbatch refuses a script whose first line is not #!", "#!/bin/bash")

    if script.crlf:
        message = "the lines end as on Windows, which sbatch refuses"
        yield error(1, "crlf", message, "sed -i 's/\\r$//' SCRIPT")


def _late(script: Script) -> Iterator[Finding]:
    if not script.is_shell or (script.generates and not script.directives):
        return

    for number, line in script.late:
        message = f"comes after a command, so Slurm ignores it: {line}"
        yield error(number, "late-directive", message, "move it above the first command")


def _almost(script: Script) -> Iterator[Finding]:
    """Find directives with a space, which are comments. Many authors mean that, so it is not an error."""
    known = script.options
    for number, line in enumerate(script.lines, 1):
        match = re.match(r"#\s+SBATCH\s+--?([\w-]+)", line)
        # An option that is set elsewhere was commented out on purpose.
        if match and match[1] not in known:
            yield hint(number, "space-in-directive", "a comment, not a directive", "#SBATCH, without a space")


def _variables(script: Script) -> Iterator[Finding]:
    # sbatch reads directives itself. No shell expands them.
    for directive in script.directives:
        if re.search(r"\$[A-Za-z_({]|`", directive.value):
            message = f"--{directive.name}={directive.value}: sbatch expands no variable in a directive"
            fix = f"sbatch --{directive.name}=… on the command line, or %j, %x, %u"
            yield error(directive.line, "unexpanded", message, fix)


def _spaces(script: Script) -> Iterator[Finding]:
    for directive in script.directives:
        if directive.value in ("=", "") and re.search(
            rf"--{re.escape(directive.name)}\s+=|--{re.escape(directive.name)}=\s+[^\s#-]",
            script.lines[directive.line - 1],
        ):
            message = f"--{directive.name}: a space beside the equals sign ends the option"
            yield error(directive.line, "space-around-equals", message, f"--{directive.name}=VALUE")


def _memory(script: Script) -> Iterator[Finding]:
    given = [script.options[name] for name in MEMORY if name in script.options]
    if len(given) > 1:
        names = ", ".join(f"--{directive.name}" for directive in given)
        yield error(given[-1].line, "memory-twice", f"{names}: sbatch accepts only one of them", "keep one")

    if "exclusive" in script.options and not given:
        line = script.options["exclusive"].line
        message = "the job gets the whole node, but may get only the site's default share of its memory"
        yield hint(line, "memory-left", message, "#SBATCH --mem=0")


def _array(script: Script) -> Iterator[Finding]:
    """Find a log file that all tasks of an array share: they overwrite each other's lines."""
    # An array of a single number is one task.
    if "array" not in script.options or re.fullmatch(r"\d+", script.value("array")):
        return

    for name in ("output", "error"):
        directive = script.options.get(name)
        if directive and directive.value and not _OF_A_TASK.search(directive.value):
            message = f"--{name}={directive.value}: all tasks of the array write into this one file"
            yield error(directive.line, "one-file-for-all", message, f"--{name}=NAME-%A_%a.out")


def _folder(script: Script) -> Iterator[Finding]:
    """Find folders of logs that do not exist yet.

    Slurm opens the log before the script runs, and else ends the job.
    """
    for name in ("output", "error"):
        directive = script.options.get(name)
        if directive is None or "/" not in directive.value:
            continue

        folder = directive.value.rpartition("/")[0]
        if "%" in folder:
            message = f"Slurm does not create {folder}; if it is missing, the job ends without a message"
            yield warning(directive.line, "output-folder", message, "use % in the file's name only")
        elif script.has(
            rf"\bmkdir\s+(-\S+\s+)*[\"']?(\./)?{re.escape(folder.removeprefix('./'))}/?[\"']?(\s|$|;|&)"
        ):
            message = f"the script creates {folder}, but Slurm needs it before the script runs"
            yield warning(directive.line, "output-folder", message, f"mkdir -p {folder} before sbatch")


def _dependency(script: Script) -> Iterator[Finding]:
    directive = script.options.get("dependency")
    if directive and "afterok" in directive.value and "kill-on-invalid-dep" not in script.options:
        message = "if the earlier job fails, this job may stay in the queue for ever"
        yield hint(directive.line, "orphaned-dependency", message, "#SBATCH --kill-on-invalid-dep=yes")


def _time(script: Script) -> Iterator[Finding]:
    # A script without directives may get its options from the command line.
    if script.directives and "time" not in script.options:
        message = "without a time limit the partition's default applies, and Slurm cannot backfill the job"
        yield hint(0, "no-time-limit", message, "#SBATCH --time=[days-]hours:minutes:seconds")


RULES = (_first_line, _late, _almost, _variables, _spaces, _memory, _array, _folder, _dependency, _time)
