"""Mistakes in an sbatch script that anyone wrote: what Slurm accepts and what then goes wrong. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One mistake: the line it is in (0: of the whole script), what is wrong, and what to write instead."""

    line: int
    rule: str
    message: str
    fix: str


class Script(msgspec.Struct, frozen=True):
    """A script as sbatch reads it: directives count up to the first command, and not after it."""

    lines: tuple[str, ...]
    options: dict[str, tuple[int, str]]
    """Long name of an option to the line and the value of its last directive."""
    ignored: tuple[tuple[int, str], ...]
    """Directives that stand after the first command."""

    @property
    def body(self) -> list[tuple[int, str]]:
        """Commands with the number of their first line; those that a backslash continues are one."""
        commands: list[tuple[int, str]] = []
        continued = False
        for number, text in enumerate(self.lines, 1):
            if continued:
                commands[-1] = (commands[-1][0], commands[-1][1] + " " + text.strip().removesuffix("\\"))
            elif text.strip() and not _is_comment(text):
                commands.append((number, text.removesuffix("\\")))
            else:
                continue

            continued = text.endswith("\\")

        return commands

    def find(self, pattern: str) -> Iterator[tuple[int, str]]:
        """Lines of the body in which ``pattern`` occurs."""
        return ((number, text) for number, text in self.body if re.search(pattern, text))


_TOKEN = r"\b(hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9]{16,}|ghp_[A-Za-z0-9]{16,})"
"""How tokens of well-known services begin."""
_SHORT = {
    "A": "account",
    "a": "array",
    "c": "cpus-per-task",
    "C": "constraint",
    "d": "dependency",
    "D": "chdir",
    "e": "error",
    "G": "gpus",
    "J": "job-name",
    "N": "nodes",
    "n": "ntasks",
    "o": "output",
    "p": "partition",
    "q": "qos",
    "t": "time",
    "w": "nodelist",
    "x": "exclude",
}


def lint(text: str) -> list[Finding]:
    """What is wrong with a script, in the order of its lines."""
    script = read_script(text)
    found = [finding for rule in RULES for finding in rule(script)]
    return sorted(found, key=lambda finding: (finding.line, finding.rule))


def read_script(text: str) -> Script:
    lines = tuple(text.splitlines())
    options: dict[str, tuple[int, str]] = {}
    ignored = []
    commands = False

    for number, line in enumerate(lines, 1):
        if line.startswith("#SBATCH"):
            if commands:
                ignored.append((number, line))
            else:
                options |= {name: (number, value) for name, value in _options(line)}
        elif line.strip() and not _is_comment(line):
            commands = True

    return Script(lines, options, tuple(ignored))


def _options(directive: str) -> Iterator[tuple[str, str]]:
    """The options of one ``#SBATCH`` line, by their long names; quotes are taken off, escapes stay."""
    words = re.findall(
        r"""(?:[^\s"'#]|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')+|#.*""", directive[len("#SBATCH") :]
    )
    words = [re.sub(r"""["']""", "", word) for word in words if not word.startswith("#")]
    index = 0

    while index < len(words):
        word = words[index]
        following = words[index + 1] if index + 1 < len(words) else ""
        index += 1
        if match := re.fullmatch(r"--([a-z][\w-]*)(?:=(.*))?", word):
            name = match[1]
            value = match[2]
        elif match := re.fullmatch(r"-(\w)(.*)", word):
            name = _SHORT.get(match[1], match[1])
            value = match[2].removeprefix("=") or None
        else:
            continue

        if value is None and following and not following.startswith("-"):
            value = following
            index = index + 1

        yield name, value or ""


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


# ---- rules


def _first_line(script: Script) -> Iterator[Finding]:
    if not script.lines or not script.lines[0].startswith("#!"):
        yield Finding(1, "shebang", "sbatch refuses a script whose first line is not #!", "#!/bin/bash")


def _late_directives(script: Script) -> Iterator[Finding]:
    for number, line in script.ignored:
        yield Finding(
            number, "late-directive", f"stands after a command, so Slurm ignores it: {line}", "move it up"
        )


def _variables(script: Script) -> Iterator[Finding]:
    for name, (number, value) in script.options.items():
        if re.search(r"\$[\w({]|`", value):
            message = f"--{name}={value}: nothing is expanded in a directive"
            yield Finding(
                number, "unexpanded", message, f"sbatch --{name}=… on the command line, or %j, %x, %u"
            )


def _warning(script: Script) -> Iterator[Finding]:
    number, value = script.options.get("signal", (0, ""))
    if not value:
        message = "no warning before the time limit, so what was computed since the last checkpoint is lost"
        yield Finding(
            0, "no-signal", message, "#SBATCH --signal=B:USR2@300 and a trap that asks for a checkpoint"
        )
        return

    if not value.startswith(("B:", "RB:", "BR:")):
        message = f"--signal={value}: goes to the job steps and not to this script"
        yield Finding(number, "signal-to-steps", message, f"--signal=B:{value}")

    name = re.sub(r"^.*:|@.*$", "", value).removeprefix("SIG")
    if value.startswith("B:") and not list(script.find(rf"\btrap\b.*\b(SIG)?{re.escape(name)}\b")):
        yield Finding(
            number, "signal-untrapped", f"{name} is not trapped, so it ends the script", f"trap … {name}"
        )

    if not list(script.find(r"\btrap\b")):
        return

    if list(script.find(r"^\s*srun\b[^&]*[^&\s]\s*$")):
        message = "bash runs a trap only after the command in the foreground has ended: srun holds it up"
        yield Finding(number, "trap-behind-srun", message, "srun … & and wait for it, again after the signal")

    waits = list(script.find(r"(^|[;&|]|\b(do|until|while)\b)\s*wait\b"))
    if (
        len(waits) == 1
        and list(script.find(r"^\s*srun\b.*&\s*$"))
        and not list(script.find(r"\b(while|until)\b"))
    ):
        message = "a signal ends wait at once, so the script ends while srun still runs"
        yield Finding(waits[0][0], "waited-once", message, "wait for it again after the signal")


def _requeue(script: Script) -> Iterator[Finding]:
    if list(script.find(r"\bscontrol\s+requeue\b")) and "requeue" not in script.options:
        number = next(script.find(r"\bscontrol\s+requeue\b"))[0]
        message = "the job requeues itself, which a site may forbid where it was not asked for"
        yield Finding(number, "requeue-not-asked", message, "#SBATCH --requeue")

    for number, _ in script.find(r"\btrap\b.*\bscontrol\s+requeue\b"):
        message = "requeued on the signal, the job is ended before its checkpoint is written"
        yield Finding(
            number,
            "requeue-in-trap",
            message,
            "ask for a checkpoint in the trap, requeue when srun has ended",
        )

    number, mode = script.options.get("open-mode", (0, ""))
    if "requeue" in script.options and not mode.startswith("a"):
        number = script.options["requeue"][0]
        message = "after a requeue the log of the attempt before is overwritten"
        yield Finding(number, "log-overwritten", message, "#SBATCH --open-mode=append")


def _dependency(script: Script) -> Iterator[Finding]:
    number, value = script.options.get("dependency", (0, ""))
    if "afterok" in value and "kill-on-invalid-dep" not in script.options:
        message = "when the job before fails, this one stays in the queue for ever"
        yield Finding(number, "orphaned-dependency", message, "#SBATCH --kill-on-invalid-dep=yes")


def _cpus(script: Script) -> Iterator[Finding]:
    if "cpus-per-task" not in script.options or list(
        script.find(r"SRUN_CPUS_PER_TASK|srun\b.*(--cpus-per-task|-c\b)")
    ):
        return

    if list(script.find(r"^\s*srun\b")):
        number = script.options["cpus-per-task"][0]
        message = "since 22.05 srun does not take --cpus-per-task from the job: each task gets one CPU"
        yield Finding(number, "cpus-not-passed", message, "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK")


def _srun(script: Script) -> Iterator[Finding]:
    nodes = script.options.get("nodes", (0, "1"))[1]
    several = nodes not in ("", "1")
    launches = list(
        script.find(r"\b(torchrun|torch\.distributed\.(run|launch)|deepspeed|accelerate launch)\b")
    )
    if several and launches and not list(script.find(r"\bsrun\b")):
        message = f"{nodes} nodes, but without srun it is started on the first one only"
        yield Finding(launches[0][0], "one-node-only", message, "srun --ntasks-per-node=1 torchrun …")

    tasks = script.options.get("ntasks-per-node", (0, "1"))[1]

    for number, line in launches:
        if tasks not in ("", "1") and not re.search(r"--ntasks-per-node[= ]1\b", line):
            message = f"{tasks} tasks a node, each of which starts all of a node's processes"
            yield Finding(number, "launched-by-every-task", message, "#SBATCH --ntasks-per-node=1")

        known = r"rdzv[_-]|master[_-]addr|--standalone"
        if several and not re.search(known, line, re.IGNORECASE) and not list(script.find("PET_RDZV")):
            message = "each node would make a training of its own: they do not know each other"
            yield Finding(
                number, "no-rendezvous", message, "--rdzv_backend=c10d --rdzv_endpoint=$FIRST_NODE:$PORT"
            )

    for number, line in script.find(r"\bsrun\b.*--container-image"):
        if "container-mount-home" not in line:
            message = "packages in the home folder come before the image's"
            yield Finding(number, "home-in-container", message, "srun --no-container-mount-home …")

    for number, line in script.find(r"^\s*srun\b"):
        if several and "--kill-on-bad-exit" not in line and " -K" not in line:
            message = "when one task dies the others wait for it until the time limit"
            yield Finding(number, "survivors-hang", message, "srun --kill-on-bad-exit=1 …")


def _rendezvous(script: Script) -> Iterator[Finding]:
    for number, line in script.find(r"(MASTER_PORT|--master[_-]port|rdzv[_-]endpoint)[= ]\S*?\b\d{4,5}\b"):
        if "SLURM_JOB" not in line:
            message = "a fixed port: two jobs on one node meet on it"
            yield Finding(number, "fixed-port", message, "MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))")

    for number, _ in script.find(
        r"(MASTER_ADDR|rdzv[_-]endpoint)[= ]\"?\$?\(?(hostname|HOSTNAME|localhost|127\.0\.0\.1)\b"
    ):
        if script.options.get("nodes", (0, "1"))[1] not in ("", "1"):
            fix = 'scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1, before srun'
            yield Finding(number, "rendezvous-here", "each node would take itself for the master", fix)


def _secrets(script: Script) -> Iterator[Finding]:
    for number, line in script.find(r"\b\w*(TOKEN|API_?KEY|SECRET|PASSWORD)\w*=[\"']?[^\s\"'$<{(]"):
        name = line.split("=")[0].split()[-1]
        message = f"{name}: scripts are kept by Slurm and shown by scontrol write batch_script"
        yield Finding(
            number, "secret", message, "export it before sbatch, or read it from a file of mode 600"
        )

    for number, _ in script.find(rf"{_TOKEN}"):
        message = "a token on a command line is seen by everyone in ps"
        yield Finding(number, "secret", message, "the program reads it from the environment")

    number, value = script.options.get("export", (0, ""))
    if re.search(r"(TOKEN|API_?KEY|SECRET|PASSWORD)\w*=", value):
        message = "a directive is part of the script, which Slurm keeps and shows"
        yield Finding(number, "secret", message, "export it before sbatch, which passes the environment on")

    for number, _ in script.find(r"^\s*set\s+-\w*x|^\s*set\s+-o\s+xtrace"):
        yield Finding(number, "xtrace", "writes every value into the log, tokens too", "leave it out")


def _memory(script: Script) -> Iterator[Finding]:
    if "exclusive" in script.options and not {"mem", "mem-per-cpu", "mem-per-gpu"} & script.options.keys():
        number = script.options["exclusive"][0]
        message = "the whole node, but only the partition's default share of its memory"
        yield Finding(number, "memory-left", message, "#SBATCH --mem=0")


def _time(script: Script) -> Iterator[Finding]:
    if "time" not in script.options:
        message = "without a time limit the partition's default applies, and nothing can be backfilled"
        yield Finding(0, "no-time-limit", message, "#SBATCH --time=[days-]hours:minutes:seconds")


RULES: tuple[Callable[[Script], Iterator[Finding]], ...] = (
    _first_line,
    _late_directives,
    _variables,
    _warning,
    _requeue,
    _dependency,
    _cpus,
    _srun,
    _rendezvous,
    _secrets,
    _memory,
    _time,
)
