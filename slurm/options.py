"""Options of sbatch and srun that a site or a user adds to jobctl's options, or puts in their place."""

from __future__ import annotations

import re
from collections.abc import Mapping

from jobctl.jobs.core.errors import UserError

Options = dict[str, str | int | bool | None]
"""Values by the long names of options. True is a flag without a value. None, False and "" are left out."""

_NAME = re.compile(r"[a-z][a-z0-9-]*")
OF_JOBCTL = {
    "array": "jobctl derives it from --nodes of prep and from sweep_batch_sizes",
    "chdir": "use project_dir",
    "clusters": "use slurm.cluster",
    "comment": "use slurm.comment",
    "dependency": "use --after",
    "error": "logs are in the run directory",
    "export": "use env and pass_env",
    "export-file": "use env and pass_env",
    "input": "a job has no standard input",
    "job-name": "use --run",
    "no-requeue": "use max_attempts and retries",
    "nodes": "use --nodes",
    "ntasks": "one task a node starts the ranks: use processes_per_node",
    "ntasks-per-node": "one task a node starts the ranks: use processes_per_node",
    "open-mode": "logs are in the run directory",
    "output": "logs are in the run directory",
    "parsable": "jobctl reads the job's id itself",
    "requeue": "use max_attempts and retries",
    "signal": "use stop_grace_seconds",
    "time": "use time_limit",
    "wait": "use jobctl submit --wait",
    "wrap": "the script is jobctl's",
}
"""Options of sbatch that would disturb jobctl's work with the job, and what to use instead."""
OF_EACH_RUN = {
    "jobid": "a step belongs to its own job",
    "label": "logs are in the run directory",
    "multi-prog": "all nodes run the same command",
    "nodelist": "the preflight chooses the nodes",
    "nodes": "use --nodes",
    "ntasks": "one task a node starts the ranks: use processes_per_node",
    "ntasks-per-node": "one task a node starts the ranks: use processes_per_node",
    "output": "logs are in the run directory",
    "error": "logs are in the run directory",
    "export": "use env and pass_env",
    "pty": "a batch job has no terminal",
}
"""The same for srun."""


def added(own: Mapping[str, str | int | bool | None], extra: Mapping[str, object], key: str) -> Options:
    """Return ``own`` options with ``extra`` options, which win. ``key`` is the setting that holds these.

    Raises UserError for an invalid name of an option, and for an option that only jobctl may choose.
    """
    refused = OF_JOBCTL if key == "slurm.options" else OF_EACH_RUN
    options: Options = dict(own)
    for spelled, value in extra.items():
        name = spelled.removeprefix("--")
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{key}: {spelled!r} is not the long name of an option", hint="as in hint or mem-per-gpu"
            )

        if name in refused:
            raise UserError(f"{key}: --{name} is jobctl's own", hint=refused[name])

        options[name] = _value(value)
        if name.startswith("mem-per-") and options[name]:
            # sbatch accepts only one of the three.
            options["mem"] = None

    return options


def _value(value: object) -> str | int | bool | None:
    """Return a value as the file has it. ``--set`` gives true and false as text."""
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"

    return value if isinstance(value, str | int) else None


def as_words(options: Mapping[str, str | int | bool | None]) -> list[str]:
    """Return options as words of a command line. The caller must still quote each word."""
    words = []
    for name, value in options.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not None and value is not False and value != "":
            words.append(f"--{name}={value}")

    return words
