"""``jobctl sweep``: find the largest batch that fits and the fastest setting by trials."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from jobctl.jobs.cli.choices import ChoiceCommand, choice_options, root
from jobctl.jobs.cli.finding import Place, find_run
from jobctl.jobs.cli.output import emit, say, warn
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.store import Run
from jobctl.jobs.spec.job_spec import TrainSpec
from jobctl.jobs.spec.resolution import Resolution
from jobctl.jobs.sweeping import page as pages
from jobctl.jobs.sweeping.results import read_outcomes
from jobctl.jobs.targets.registry import load_target, target_entry


@click.command("sweep", cls=ChoiceCommand)
@choice_options
@click.option("--find-batch", is_flag=True, help="Find the largest batch_size that fits.")
@click.option("--array", "is_array", is_flag=True, help="Run each combination as a task of a Slurm array.")
@click.option(
    "--interval",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Warm-up steps; twice as many steps are measured.",
)
@click.option("--minutes", type=float, default=15.0, show_default=True, help="Longest time of one trial.")
@click.option("--dry-run", is_flag=True, help="Print the job's script, and submit nothing.")
@click.option("--wait", is_flag=True, help="Wait for the end, and print the result.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def sweep_command(
    find_batch: bool,
    is_array: bool,
    interval: int,
    minutes: float,
    dry_run: bool,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Try settings, each in new processes, and show the fastest one.

    --set KEY=A,B,C tries each value of a training's key, also sharding=ddp,zero1,fsdp and tier=1,2,3. The batch of a
    step does not change. `jobctl sweep RUN` shows the result of a submitted sweep.
    """
    if options["words"] and not options["model"]:
        show(_named(options["words"]), Place(site=options["site"]), as_json=as_json)
        return

    from jobctl.jobs.cli.sweeping import build

    if minutes <= 0:
        raise UserError(f"--minutes {minutes:g}: a trial needs more time than that")
    if is_array and not target_entry(options["target"] or _default_target()).has_arrays:
        raise UserError(
            "--array: only Slurm has job arrays",
            hint="leave it out: then one job tries all combinations, one by one",
        )

    options["stamp"] = f"{datetime.now():%Y%m%d-%H%M%S}"
    resolved = build(options, find_batch=find_batch, interval=interval, minutes=minutes, is_array=is_array)
    warn(resolved.warnings)
    if dry_run:
        click.echo(load_target(resolved.spec.target).render(resolved.spec), nl=False, color=True)
        return

    _submit(resolved, wait=wait, as_json=as_json)


def _default_target() -> str:
    from jobctl.jobs.cli.choices import project_choices

    return project_choices()[0].target


def _named(words: tuple[str, ...]) -> str:
    if len(words) > 1:
        raise UserError(f"show one sweep at a time, not {' '.join(words)}", hint="jobctl sweep RUN")
    return words[0]


def _submit(resolved: Resolution, *, wait: bool, as_json: bool) -> None:
    from jobctl.jobs.submission import check_inputs, store_for
    from jobctl.jobs.targets.machine import check_machine

    spec = resolved.spec
    home = Path(spec.site.root) if target_entry(spec.target).shares_files else root()
    # A sweep searches for sizes that fit, so less memory than declared is no reason to refuse it.
    check_machine(spec, force=True)
    check_inputs(spec)
    started = store_for(spec, home).start(spec)
    run = started.run
    if not wait:
        facts = {"run": run.name, "job_id": started.job_id, "target": run.target}
        emit(
            facts,
            as_json,
            f"submitted sweep {run.name} (job {started.job_id}); jobctl sweep {run.name} shows it",
        )
        return

    from jobctl.jobs.cli.follow import Progress, exit_code, follow, goes_on

    with goes_on(run.name):
        status = follow(run.name, Place(root=home), Progress(quiet=as_json))[1]

    # This is also printed for a failed sweep: some of its trials may have succeeded.
    show(run.name, Place(root=home), as_json=as_json)
    if status.state != "finished":
        say(f"jobctl: the sweep is {status.state}: jobctl logs {run.name}", err=True)
        raise SystemExit(exit_code(status))


def show(name: str, place: Place, *, as_json: bool) -> None:
    """Print the results of a sweep, also while it continues. Raises UserError for any other run."""
    run = find_run(name, place)
    spec = run.record.spec
    plan = spec.plan if isinstance(spec, TrainSpec) else None
    if not isinstance(spec, TrainSpec) or plan is None:
        raise UserError(f"run {name} is no sweep", hint="jobctl sweep --model NAME --find-batch", code=1)

    outcomes = read_outcomes(_local(run))
    emit(pages.facts(plan, outcomes), as_json, pages.page(plan, outcomes, spec.world_size))


def result_of(run: Run) -> str:
    """Return the results of a sweep, or an empty text for another run and for one that is not here."""
    spec = run.record.spec
    plan = spec.plan if isinstance(spec, TrainSpec) else None
    if not isinstance(spec, TrainSpec) or plan is None or run.step or not run.path.is_dir():
        return ""

    return pages.page(plan, read_outcomes(run.path), spec.world_size)


def _local(run: Run) -> Path:
    """Return the run's directory. Raises UserError if only a cluster has it."""
    if not run.path.is_dir():
        raise UserError(
            f"{run.path} is not on this machine", hint=f"jobctl collect {run.name} -o DIR", code=1
        )

    return run.path
