"""``jobctl doctor``: find the faults of a run, or, before a run, of this machine or a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click
import msgspec

from jobctl.jobs import kinds
from jobctl.jobs.catalog.schema import Resources
from jobctl.jobs.cli.choices import OPTIONS, project_choices, resolution, root
from jobctl.jobs.cli.output import emit, warn
from jobctl.jobs.monitoring.checks.diagnosis import RUN_CHECKS, diagnose
from jobctl.jobs.monitoring.checks.finding import Finding, RunFacts, read_logs, text
from jobctl.jobs.monitoring.checks.machine import MACHINE_CHECKS, MachineFacts, ask_gpus, examine
from jobctl.jobs.monitoring.opening import open_run
from jobctl.jobs.targets.protocol import Examination, Examines, Trouble
from jobctl.jobs.targets.registry import load_target, target_entry

FOUND = 1
"""Exit code if a check has a finding."""
NOTHING = "nothing to check: '{0}' has no log and no attempt yet; jobctl status {0}"
NO_STEP = "'{0}' has logged no step yet, so jobctl could not check its loss and speed"


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose a job. In this command the words are names of runs."""
    for option in reversed(OPTIONS[1:]):
        command = option(command)

    return command


@click.command("doctor")
@click.argument("runs", metavar="[RUN…]", nargs=-1)
@job_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor_command(runs: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Find faults of a run or of this machine, and say how to repair them.

    With RUN, read the logs of that run. The run may still be running. Without RUN, check this machine. With --model
    and the other options of a job, also check the needs of that job. With --target slurm, also look for Slurm and the
    site's container runtime. With --target k8s, check the cluster instead. The exit code is 1 if there is a problem.
    """
    subjects: dict[str, list[Finding]]
    unchecked: list[str] = []
    stepless: list[str] = []
    if runs:
        known = {word: _facts(word) for word in runs}
        unchecked = [word for word, facts in known.items() if facts.are_empty]
        stepless = [word for word, facts in known.items() if not facts.have_steps]
        subjects = {word: diagnose(facts) for word, facts in known.items()}
        counts = dict.fromkeys(known, len(RUN_CHECKS))
        total = len(RUN_CHECKS)
    else:
        subjects, counts = _of_place(options)
        total = sum(counts.values())

    parts = []
    for name, found in subjects.items():
        lines = [name] if len(subjects) > 1 else []
        if name in unchecked:
            lines.append(NOTHING.format(name))
        else:
            lines.append(text(found, counts[name]))
            lines += [NO_STEP.format(name)] if name in stepless else []

        parts.append("\n".join(lines))

    facts = {"findings": subjects, "checks": total, "unchecked": unchecked, "without_steps": stepless}
    emit(facts, as_json, "\n\n".join(parts))
    if any(subjects.values()):
        raise SystemExit(FOUND)


def _of_place(options: dict[str, Any]) -> tuple[dict[str, list[Finding]], dict[str, int]]:
    """Return the faults of the place where jobs run, and the number of checks for each part of it."""
    name = _target_name(options)
    target = load_target(name)
    subjects: dict[str, list[Finding]] = {}
    counts: dict[str, int] = {}
    if isinstance(target, Examines):
        examined = _of_cluster(target, options)
        warn(examined.notes)
        subjects["the cluster"] = [_finding(trouble) for trouble in examined.troubles]
        counts["the cluster"] = examined.checks

    if target_entry(name).shares_files:
        # A user of another machine would read "this machine" as the user's own.
        is_of_another = click.get_current_context().find_root().obj
        place = "the login node" if is_of_another else "this machine"
        subjects[place] = _of_machine(options)
        counts[place] = len(MACHINE_CHECKS)

    return subjects, counts


def _facts(word: str) -> RunFacts:
    """Return all facts that the run ``word`` has written. Raises UserError if it does not exist."""
    opened = open_run(word, root())
    history = opened.history()
    records = opened.records()
    warn([*history.notes, *records.notes])
    # A log of the guide's tools may be a single file, without logs of ranks.
    logs = read_logs(opened.path) if opened.path.is_dir() else {}

    return RunFacts(history=history, records=records, logs=logs, now=time.time())


def _target_name(options: dict[str, Any]) -> str:
    """Return the name of the target that the options or the project file name."""
    project, _ = project_choices()
    return options["target"] or project.target


def _of_cluster(target: Examines, options: dict[str, Any]) -> Examination:
    """Return the faults of the cluster.

    The cluster is examined for the job that the options choose. Without a job its nodes are examined.
    """
    # Without a model the preflight represents any job, because it needs none.
    words = () if options["model"] else (kinds.PREFLIGHT.name,)
    spec = resolution(words=words, **options).spec
    resources = spec.resources
    if not (options["model"] or options["hardware"]):
        # No job is chosen, so the whole cluster is examined, also its GPUs.
        resources = msgspec.structs.replace(resources, gpus_per_node=Resources().gpus_per_node)

    return target.examine(spec.site, resources)


def _finding(trouble: Trouble) -> Finding:
    return Finding(
        check=trouble.check,
        cause=trouble.cause,
        evidence=trouble.evidence,
        remedy=trouble.remedy,
        page=trouble.page,
    )


def _of_machine(options: dict[str, Any]) -> list[Finding]:
    """Return the faults of this machine, for the job of the options if they choose one."""
    if not options["model"]:
        return examine(MachineFacts(root=root(options["site"]), gpus=ask_gpus()))

    from jobctl.jobs.cli.room import rate_doubts
    from jobctl.jobs.submission import check_inputs

    resolved = resolution(words=(), **options)
    # This is advice, not a finding. It does not change the exit code of the checks.
    warn(rate_doubts(resolved))
    spec = resolved.spec
    facts = MachineFacts(root=root(options["site"]), spec=spec, gpus=ask_gpus(), inputs=check_inputs)
    return examine(facts)
