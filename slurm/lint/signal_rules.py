"""Mistakes at the end of a job: the warning, the traps, and the requeue."""

from __future__ import annotations

import re
from collections.abc import Iterator

from jobctl.jobs.spec.job_spec import seconds
from jobctl.slurm.lint.finding import Finding, error, hint, warning
from jobctl.slurm.lint.script import Command, Script

NUMBERS = {"1": "HUP", "2": "INT", "10": "USR1", "12": "USR2", "15": "TERM"}
"""Signals that ``--signal`` may name by a number."""
LONG_SECONDS = 12 * 3600
"""A training of this length loses much if it ends without a warning."""
_LAUNCH = (
    r"srun|mpirun|mpiexec|torchrun|accelerate|deepspeed|python[\d.]*|singularity|apptainer|bash|sh|Rscript|"
    r"julia|matlab|java|make|\./\S+|\$\{?(?:LAUNCHER|CMD|PYTHON\w*)\}?"
)
_TIME_LIMIT = re.compile(r"(\d+-)?\d+(:\d+){0,2}")
_FOREGROUND = re.compile(
    rf"^\s*(?:\w+=\S*\s+)*(?:time\s+|nice\s+|env\s+(?:\w+=\S*\s+)*)?(?:{_LAUNCH})(?=\s|$)"
)
_TRAINING = r"\b(torchrun|deepspeed|accelerate\s+launch|torch\.distributed|lightning|train\w*\.py)\b"


def _signal(script: Script) -> tuple[int, bool, str]:
    """Return the line of ``--signal`` (0: absent), whether it goes to the batch shell, and its name."""
    directive = script.options.get("signal")
    if directive is None:
        return 0, False, ""

    # Options stand before a colon: B is the batch shell, R a reservation.
    options, _, rest = directive.value.rpartition(":")
    name = re.sub(r"@.*$", "", rest).upper().removeprefix("SIG")
    return directive.line, "B" in options, NUMBERS.get(name, name)


def traps(script: Script, name: str) -> list[Command]:
    """Return the commands that trap a signal."""
    numbers = [number for number, known in NUMBERS.items() if known == name]
    names = "|".join([re.escape(name), *numbers])
    # trap - NAME takes a trap away.
    return [
        command for command in script.find(rf"\btrap\b.*\b(SIG)?({names})\b") if "trap -" not in command.text
    ]


def _handler(script: Script, trap: Command) -> str:
    """Return the text that a trap runs: its own words, and the body of the function that it names."""
    match = re.search(r"\btrap\s+(?:--\s+)?(\"[^\"]*\"|'[^']*'|\S+)", trap.text)
    if match is None:
        return ""

    words = match[1].strip("\"'")
    name = words.split()[0] if words.split() else ""
    text = "\n".join(script.lines)
    body = re.search(
        rf"(?:^|\n)\s*(?:function\s+)?{re.escape(name)}\s*(?:\(\))?\s*\{{(.*?)\n\}}", text, re.DOTALL
    )
    return f"{words}\n{body[1]}" if body and name else words


def _to_the_steps(script: Script) -> Iterator[Finding]:
    line, to_batch, name = _signal(script)
    if not line or to_batch:
        return

    if traps(script, name):
        message = f"{name} goes to the job steps and not to this script, whose trap never runs"
        yield error(
            line, "signal-to-steps", message, f"--signal=B:{script.value('signal').rpartition(':')[2]}"
        )


def _untrapped(script: Script) -> Iterator[Finding]:
    line, to_batch, name = _signal(script)
    # These may set the trap in another way, so the rule then says nothing.
    if not to_batch or traps(script, name) or script.has(r"\bexec\b|\btrap\b|^\s*(source|\.)\s"):
        return

    message = f"{name} is not trapped, so it ends the script at once"
    yield error(line, "signal-untrapped", message, f"trap … {name}, before anything else")


def _behind_a_command(script: Script) -> Iterator[Finding]:
    """Find traps that come too late. Bash runs a trap only after the command in the foreground has ended."""
    line, to_batch, name = _signal(script)
    trapped = traps(script, name) if to_batch else []
    # A wait returns as soon as a trapped signal arrives, so a script with one is fine.
    if not line or not trapped or script.has(r"(^|[;&|]|\b(do|until|while|then)\b)\s*wait\b"):
        return

    after = [command for command in script.commands if command.line > trapped[0].line]
    held = [command for command in after if _in_foreground(command.text)]
    if held:
        message = f"bash runs the trap of {name} only after this command has ended, which is too late"
        yield error(
            held[-1].line, "trap-behind-command", message, "COMMAND & and then wait, again after the signal"
        )


def _in_foreground(text: str) -> bool:
    return bool(_FOREGROUND.match(text)) and not re.search(r"&\s*(#.*)?$", text.rstrip())


def _waited_once(script: Script) -> Iterator[Finding]:
    _, to_batch, name = _signal(script)
    waits = list(script.find(r"(^|[;&|]|\b(do|until|while|then)\b)\s*wait\b"))
    # A loop waits again after a signal.
    if not to_batch or not traps(script, name) or len(waits) != 1 or script.has(r"\b(while|until)\b"):
        return

    handler = "".join(_handler(script, trap) for trap in traps(script, name))
    # Such a handler waits itself, or ends the script on purpose.
    if re.search(r"\b(wait|exit|scontrol\s+requeue|sbatch)\b", handler):
        return

    message = "a signal ends wait at once, so the script ends while the command still runs"
    yield warning(waits[0].line, "waited-once", message, "wait for it again after the signal")


def _requeue(script: Script) -> Iterator[Finding]:
    requeues = list(script.find(r"\bscontrol\s+requeue"))
    if requeues and "no-requeue" in script.options:
        message = "the job asks not to be requeued, so Slurm refuses this"
        yield error(requeues[0].line, "requeue-refused", message, "#SBATCH --requeue")

    for name in ("USR1", "USR2", "TERM", "CONT"):
        for trap in traps(script, name):
            handler = _handler(script, trap)
            if re.search(r"\bscontrol\s+requeue", handler) and not re.search(
                r"\b(wait|kill|sleep|touch)\b", handler
            ):
                message = "the trap requeues the job at once, so its program cannot save anything"
                fix = "let the program save and end, wait for it, and requeue then"
                yield warning(trap.line, "requeue-in-trap", message, fix)

    directive = script.options.get("requeue")
    if directive and not script.value("open-mode").startswith("a"):
        message = "a requeue may overwrite the log of the previous attempt"
        yield hint(directive.line, "log-overwritten", message, "#SBATCH --open-mode=append")


def _no_warning(script: Script) -> Iterator[Finding]:
    """Find a long training without a warning. A short one loses little."""
    if "signal" in script.options or not script.has(_TRAINING):
        return

    if _seconds(script.value("time")) >= LONG_SECONDS:
        message = "no warning before the time limit, so the work since the last checkpoint is lost"
        yield hint(
            0, "no-signal", message, "#SBATCH --signal=B:USR2@300, and a trap that asks for a checkpoint"
        )


def _seconds(limit: str) -> int:
    """Return the seconds of a time limit in any of sbatch's spellings, or 0 for any other text."""
    return seconds(limit) if _TIME_LIMIT.fullmatch(limit) else 0


RULES = (
    _to_the_steps,
    _untrapped,
    _behind_a_command,
    _waited_once,
    _requeue,
    _no_warning,
)
