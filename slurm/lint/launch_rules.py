"""Mistakes in the start of a job's processes on its nodes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from jobctl.slurm.lint.finding import Finding, error, hint, warning
from jobctl.slurm.lint.script import Command, Script

_TORCHRUN = r"(?<![\w./-])(\S*/)?torchrun\b|\btorch\.distributed\.(run|launch)\b"
_SPREADS = r"\b(srun|mpirun|mpiexec|pdsh|ssh|clush|parallel|ray|deepspeed|pbsdsh|prun|sbatch)\b"
"""Commands that reach other nodes than the first."""
_RANKS = r"SLURM_(PROCID|NODEID|LOCALID)"


def _starts(script: Script) -> list[Command]:
    """Return the commands that start torchrun, without those that only mention it."""
    commands = script.find(_TORCHRUN)
    return [
        c
        for c in commands
        if not re.match(r"\s*(echo|printf|which|pip|export\s|module\s|\w+=|type\s)", c.text)
    ]


def _one_node(script: Script) -> Iterator[Finding]:
    starts = _starts(script)
    if not script.several_nodes or not starts or script.has(_SPREADS):
        return

    message = f"{script.value('nodes')} nodes, but without srun the command starts only on the first one"
    yield error(starts[0].line, "one-node-only", message, "srun --ntasks-per-node=1 torchrun …")


def _every_task(script: Script) -> Iterator[Finding]:
    tasks = script.number("ntasks-per-node", 1)
    # A number in a variable is unknown, and the rule then says nothing.
    if not tasks or tasks < 2:
        return

    for command in _starts(script):
        if not re.search(r"\bsrun\b", command.text):
            continue

        # srun may start fewer tasks than the job has, and one process a task is right.
        if re.search(
            r"--ntasks-per-node[= ]1\b|--ntasks[= ]|(^|\s)-n\s*\d|nproc[_-]per[_-]node[= ]1\b", command.text
        ):
            continue

        message = f"{tasks} tasks a node, and each of them starts all processes of the node"
        yield error(command.line, "launched-by-every-task", message, "#SBATCH --ntasks-per-node=1")


def _strangers(script: Script) -> Iterator[Finding]:
    """Find several torchruns without a common rendezvous. Skip commands with options in variables."""
    # Any of these words anywhere may set the rendezvous, so the rule then says nothing.
    text = "\n".join(command.text for command in script.commands)
    if not script.several_nodes or re.search(
        r"rdzv|master[_-]?(addr|port)|PET_|torchrun_args|hostfile", text, re.I
    ):
        return

    for command in _starts(script):
        # What follows the program are its own options.
        options = re.split(_TORCHRUN, command.text)[-1].partition(".py")[0]
        if "srun" in command.text and "$" not in options:
            message = "each node would start its own training, because the nodes do not know each other"
            yield error(
                command.line,
                "no-rendezvous",
                message,
                "--rdzv_backend=c10d --rdzv_endpoint=$FIRST_NODE:$PORT",
            )


def _nobody_else(script: Script) -> Iterator[Finding]:
    """Find a rendezvous address that is different on each node."""
    if not script.several_nodes:
        return

    fix = 'scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1, before srun'
    for command in script.find(r"(?i)(master[_-]addr|rdzv[_-]endpoint)[= ]['\"]?(localhost|127\.0\.0\.1)\b"):
        yield error(command.line, "rendezvous-here", "each node would take itself for the first one", fix)

    # In the batch shell, hostname is the first node, which is right. Inside srun it is the name of each node
    # itself.
    for command in script.find(r"\bsrun\b"):
        # Only in single quotes does each task expand it.
        inside = "".join(re.findall(r"'([^']*)'", command.text))
        if re.search(r"(?i)(master[_-]addr|rdzv[_-]endpoint)[= ]\"?\$\(hostname\b", inside):
            yield error(command.line, "rendezvous-here", "each node would take itself for the first one", fix)


def _rank_of_the_shell(script: Script) -> Iterator[Finding]:
    """Find ranks that the batch shell expands. It runs on the first node, so they are 0 in all tasks."""
    tasks = script.number("ntasks", 1)
    per_node = script.number("ntasks-per-node", 1)
    if not script.several_nodes and (tasks or 1) < 2 and (per_node or 1) < 2:
        return

    fix = "let each task expand it: srun bash -c 'COMMAND --rank=$SLURM_PROCID'"
    for command in script.find(r"\bsrun\b"):
        for match in re.finditer(rf"(\\?)\$\{{?{_RANKS}\b", _outside_single_quotes(command.text)):
            # An escaped dollar reaches the task.
            if match[1]:
                continue

            name = f"SLURM_{match[2]}"
            message = f"the batch shell expands ${name}, so it is 0 in every task"
            yield error(command.line, "rank-of-the-shell", message, fix)
            break


def _outside_single_quotes(text: str) -> str:
    """Return a text without the parts in single quotes. An apostrophe inside double quotes is not a quote."""
    kept = []
    quote = ""
    index = 0
    while index < len(text):
        character = text[index]
        if character == "\\" and quote != "'":
            kept.append(text[index : index + 2])
            index += 2
            continue

        if quote != "'":
            kept.append(character)
        if quote and character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        index += 1

    return "".join(kept)


def _cpus(script: Script) -> Iterator[Finding]:
    cpus = script.number("cpus-per-task", 1)
    if not cpus or cpus < 2 or script.has(r"SRUN_CPUS_PER_TASK|srun\b.*(--cpus-per-task|\s-c\s*[\d$])"):
        return

    for command in script.find(r"^\s*srun\b"):
        message = "since Slurm 22.05 srun ignores --cpus-per-task of the job: a task may get one CPU"
        fix = "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"
        yield warning(command.line, "cpus-not-passed", message, fix)
        # One finding is enough: the fix serves every srun of the script.
        break


def _survivors(script: Script) -> Iterator[Finding]:
    for command in script.find(r"^\s*srun\b"):
        if script.several_nodes and not re.search(r"--kill-on-bad-exit|\s-K", command.text):
            message = "if one task dies, the other tasks may wait for it until the time limit"
            yield hint(command.line, "survivors-hang", message, "srun --kill-on-bad-exit=1 …")
            break

    for command in script.find(r"\bsrun\b.*--container-image"):
        if "container-mount-home" not in command.text:
            message = "if the site mounts the home folder, its packages come before those of the image"
            yield hint(command.line, "home-in-container", message, "srun --no-container-mount-home …")
            break


def _port(script: Script) -> Iterator[Finding]:
    for command in script.find(r"(?i)(master[_-]port|rdzv[_-]endpoint)[= ]\S*?\b\d{4,5}\b"):
        if "exclusive" not in script.options and not re.search(r"SLURM_JOB|RANDOM|\$\(\(|shuf", command.text):
            message = "a fixed port: two jobs on one node would use the same port"
            yield hint(command.line, "fixed-port", message, "MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))")
            break


RULES = (
    _one_node,
    _every_task,
    _strangers,
    _nobody_else,
    _rank_of_the_shell,
    _cpus,
    _survivors,
    _port,
)
