"""``jobctl render`` and ``jobctl submit``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from jobctl.jobs.cli.choices import FORCE_OPTION, ChoiceCommand, choice_options, named_run, resolution, root
from jobctl.jobs.cli.output import emit, say, warn
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.store import Started
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.resolution import Resolution
from jobctl.jobs.targets.registry import load_target, target_entry


@click.command("render", cls=ChoiceCommand)
@choice_options
@FORCE_OPTION
def render_command(force: bool, **options: Any) -> None:
    """Print the script or the manifest of a job. Write no file, use no network, make no run directory."""
    from jobctl.jobs.cli.room import check_room

    resolved = resolution(**options)
    _check_run(resolved.spec, named_run(options["words"], options["run"]))
    announce(resolved)
    check_room(resolved, force=force)
    if resolved.spec.after:
        warn(
            [
                (
                    "--after: only jobctl submit knows the job to wait for; with sbatch use "
                    "--dependency=afterok:JOB"
                )
            ]
        )

    # Printed unchanged: without a terminal, click would remove escape sequences from a value.
    click.echo(load_target(resolved.spec.target).render(resolved.spec), nl=False, color=True)


@click.command("submit", cls=ChoiceCommand)
@choice_options
@click.option("--dry-run", is_flag=True, help="Show the job, but submit nothing.")
@click.option("--wait", "wait", is_flag=True, help="Follow the run to its end, and exit with the run's code.")
@FORCE_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def submit_command(dry_run: bool, wait: bool, force: bool, as_json: bool, **options: Any) -> None:
    """Start a job and print the name of its run."""
    from jobctl.jobs.cli.room import check_room
    from jobctl.jobs.submission import check_inputs, check_tokenizer_folder, prepared, store_for
    from jobctl.jobs.supplies import check_licence, check_space
    from jobctl.jobs.targets.machine import check_machine

    resolved = resolution(**options, stamp=f"{datetime.now():%Y%m%d-%H%M%S}")
    spec = resolved.spec
    # The words are checked: the spec has a name by now, even if the user gave none.
    _check_run(spec, named_run(options["words"], options["run"]))
    _check_named(resolved)
    announce(resolved)
    check_tokenizer_folder(spec)
    # This comes before the checks of machine and disk: existing data needs neither.
    if prepared(spec):
        emit({"run": None, "state": "there"}, as_json, f"{prepared(spec)} exists already; nothing to do")
        return

    check_machine(spec, force=force)
    if not force:
        check_space([spec])

    check_licence([spec], lambda text: warn([text]))
    # This comes before the inputs: a data set for a job that cannot fit would be useless.
    home = Path(spec.site.root) if target_entry(spec.target).shares_files else root()
    check_room(resolved, force=force, root=home)
    check_inputs(spec)
    if dry_run:
        _print_dry_run(spec, as_json)
        return

    started = store_for(spec, home).start(spec)
    emit(_facts(started), as_json, _summary(started))
    if wait:
        _follow(started.run.name, home)


def _print_dry_run(spec: JobSpec, as_json: bool) -> None:
    """Print the submission unchanged: click would remove escape sequences from a value."""
    text = load_target(spec.target).render(spec)
    folder = f"{spec.site.root}/runs"
    if as_json:
        emit(
            {"run": spec.run, "target": spec.target, "directory": f"{folder}/{spec.run}", "text": text},
            True,
            "",
        )
        return

    click.echo(text, nl=False, color=True)
    click.echo(f"jobctl: would submit run {spec.run} to {spec.target}, in {folder}", err=True)


def announce(resolved: Resolution) -> None:
    """Print the length of a training and its probable mistakes on standard error."""
    if resolved.length:
        say(f"jobctl: {resolved.length}", err=True)

    warn(resolved.warnings)


def _facts(started: Started) -> dict[str, Any]:
    run = started.run
    facts: dict[str, Any] = {"run": run.name, "job_id": started.job_id, "target": run.target}
    if target_entry(run.target).keeps_records:
        return facts | {"new": started.new}

    return facts | {"directory": str(run.path)}


def _summary(started: Started) -> str:
    run = started.run
    job = f"job {started.job_id} on {run.target}"
    if not target_entry(run.target).keeps_records:
        return f"submitted run {run.name} ({job}), in {run.path}"

    place = f"({job}, namespace {run.record.spec.site.kubernetes.namespace})"
    if started.new:
        return f"submitted run {run.name} {place}"

    return f"nothing to do: run {run.name} was submitted before {place}"


def _follow(name: str, home: Path) -> None:
    from jobctl.jobs.cli.finding import Place
    from jobctl.jobs.cli.follow import follow_to_the_end

    follow_to_the_end(name, Place(root=home))


def _check_named(resolved: Resolution) -> None:
    """Raise UserError if the data set or tokenizer that a job is to make is not named."""
    spec = resolved.spec
    needed = {"data set": ("dataset", "tokenizer"), "text": ("dataset",), "tokenizer": ("tokenizer",)}
    missing = [key for key in needed.get(spec.job_kind.makes, ()) if key not in resolved.origins]
    if missing:
        flags = " ".join(f"--{key} NAME" for key in missing)
        raise UserError(
            f"{spec.step} needs {flags}", hint="jobctl catalog list datasets; jobctl catalog list tokenizers"
        )


def _check_run(spec: JobSpec, run: str | None) -> None:
    if spec.on_a_checkpoint and run is None:
        raise UserError(
            f"{spec.step} reads a run's checkpoint, but the command names no run",
            hint=f"jobctl submit {spec.step} RUN; jobctl list shows the runs",
        )
