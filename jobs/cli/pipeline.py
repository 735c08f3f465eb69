"""``jobctl pipeline``: make an exported model from text by one command."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from jobctl.jobs import kinds
from jobctl.jobs.catalog.loader import names
from jobctl.jobs.cli.choices import (
    FORCE_OPTION,
    ChoiceCommand,
    choice_options,
    project_choices,
    resolution,
    root,
)
from jobctl.jobs.cli.finding import Place, pipeline_runs
from jobctl.jobs.cli.output import emit, say, table, warn
from jobctl.jobs.cli.room import check_room
from jobctl.jobs.cli.status import describe_status, pipeline_table, statuses
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.runs.pipeline import STEPS, Pipeline, Step, plan, write
from jobctl.jobs.runs.store import ENDED
from jobctl.jobs.spec.gathering import entry_name
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.supplies import check_licence, check_space, is_on_the_hub
from jobctl.jobs.targets.machine import check_machine
from jobctl.jobs.targets.registry import load_target, target_entry

OF_THE_TRAINING = ("nodes", "gpus_per_node", "processes_per_node", "preflight", "spare_nodes")
"""Settings that would be wrong for a step without GPUs."""


@click.command("pipeline", cls=ChoiceCommand)
@choice_options
@click.option("--skip", metavar="STEP", multiple=True, help=f"Leave out one of: {', '.join(STEPS)}.")
@click.option("--prep-nodes", type=click.IntRange(min=1), default=1, help="Nodes that tokenize the text.")
@click.option("--wait", is_flag=True, help="Wait for the end, and exit with the pipeline's code.")
@click.option("--dry-run", is_flag=True, help="Show the steps, but submit nothing.")
@FORCE_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def pipeline_command(
    skip: tuple[str, ...], prep_nodes: int, wait: bool, dry_run: bool, as_json: bool, **options: Any
) -> None:
    """Submit tokenizer, data, preflight, training, evaluation and export, each after the one before it.

    Call it again with the same name to continue.
    """
    from jobctl.jobs.submission import is_done

    name = options["run"] or _unique_name(options["model"] or project_choices()[0].model)
    skip = (*skip, *_needless(name, prep_nodes, options))
    whole = plan(name, skip)
    specs = specs_of(name, skip, prep_nodes, options)
    spec = next(iter(specs.values()))
    home = Path(spec.site.root) if target_entry(spec.target).shares_files else root()
    remaining = whole.without([step for step, spec in specs.items() if is_done(spec, home)])
    if dry_run:
        rows = [(step.name, step.run, ", ".join(step.after)) for step in remaining.steps]
        emit(remaining, as_json, table(("STEP", "RUN", "AFTER"), rows))
        return

    _check_preconditions([specs[step.name] for step in remaining.steps], force=options.get("force", False))
    chains = target_entry(spec.target).chains
    if not chains and not wait:
        raise UserError(
            f"target {spec.target} has no queue, so jobs cannot wait for each other there",
            hint="add --wait: jobctl then submits each step when the previous step has finished",
        )

    _refuse_while_alive(whole, home)
    # This comes before the first job, so that each job can be cancelled by the pipeline's name.
    write(home, whole)
    if not chains:
        _one_by_one(remaining, specs, home, quiet=as_json)
        known = statuses(pipeline_runs(whole, Place(root=home)))
        emit(known, as_json, pipeline_table(whole, known))

        return

    after = {step.name: step.after for step in remaining.steps}
    _chain(remaining, specs_of(name, skip, prep_nodes, options, after), home, quiet=as_json)
    if wait:
        from jobctl.jobs.cli.follow import wait_for_pipeline

        wait_for_pipeline(whole, Place(root=home), as_json=as_json)
    else:
        emit(whole, as_json, f"jobctl status {name}; jobctl wait {name}; jobctl cancel {name}")


def _unique_name(model: str | None) -> str:
    """Return a name for a pipeline without one. Raises UserError if no model is chosen."""
    if not model:
        raise UserError("no model chosen", hint="--model NAME; jobctl catalog list models")

    return f"{entry_name(model)}-{datetime.now():%Y%m%d-%H%M%S}"


def _check_preconditions(specs: list[JobSpec], *, force: bool) -> None:
    """Raise UserError for GPUs, space or permission that the steps lack.

    It is raised before the first step is submitted.
    """
    from jobctl.jobs.submission import check_tokenizer_folder

    for spec in specs:
        check_tokenizer_folder(spec)
        check_machine(spec, force=force)

    if not force:
        check_space(specs)

    check_licence(specs, lambda text: warn([text]))


def _needless(name: str, prep_nodes: int, options: dict[str, Any]) -> list[str]:
    """Return the steps that are not needed.

    The hub has neither a text that a package ships, nor a tokenizer that is not in the catalogue.
    """
    train = _spec(Step(kinds.TRAIN.name, f"{name}-{kinds.TRAIN.name}"), None, prep_nodes, options)
    needless = []
    if not is_on_the_hub(train.inputs.dataset):
        needless.append("text")

    if train.inputs.tokenizer not in names("tokenizers"):
        needless.append("tokenizer")

    return [kind.name for kind in kinds.PIPELINE if kind.makes in needless]


def specs_of(
    name: str,
    skip: tuple[str, ...],
    prep_nodes: int,
    options: dict[str, Any],
    after: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, JobSpec]:
    """Return the job of each step. ``after`` names the runs for which a step waits.

    Raises UserError for an impossible job, before any submission.
    """
    training = Step(kinds.TRAIN.name, f"{name}-{kinds.TRAIN.name}")
    train = _spec(training, None, prep_nodes, options)
    waits = after or {}

    return {
        step.name: _spec(
            step, train, prep_nodes, {**options, "after": waits.get(step.name) or options["after"]}
        )
        for step in plan(name, skip).steps
    }


def _spec(step: Step, train: JobSpec | None, prep_nodes: int, options: dict[str, Any]) -> JobSpec:
    """Return the job of one step. Its inputs and its hardware follow from the training."""
    words = options["words"]
    step_options = dict(options)
    if words and not words[0].startswith("-"):
        raise UserError(
            f"'{words[0]}': a pipeline takes no names of steps; it runs all of them",
            hint="leave out a step with --skip STEP",
        )

    kind = kinds.job_kind(step.name)
    flags = words if kind.has_model else ()
    step_options |= {"run": kinds.split_name(step.run)[0], "words": (step.name, *flags)}
    # `--stage` means the training. Another kind would refuse it.
    if kind is not kinds.TRAIN:
        step_options["stage"] = None

    if train is not None:
        folder = train.tokenizer_folder.folder if train.tokenizer_folder else None
        # The model's entry may name the data, and a step without a model would not see it.
        step_options |= {"dataset": train.inputs.dataset, "tokenizer": folder or train.inputs.tokenizer}

    if train is not None and kind.about == "hardware":
        step_options |= {"hardware": options["hardware"] or train.hardware}

    # A step without GPUs runs on a CPU node, whatever the training uses.
    if not kind.needs_gpu:
        sets = tuple(text for text in step_options["sets"] if text.partition("=")[0] not in OF_THE_TRAINING)
        nodes = prep_nodes if kind.array == "nodes" else 1
        step_options |= {"hardware": "cpu", "nodes": nodes, "gpus_per_node": None, "sets": sets}

    stamp = f"{datetime.now():%Y%m%d-%H%M%S}"
    resolved = resolution(**step_options, stamp=stamp, from_record=False)
    if kind is kinds.TRAIN:
        # It is refused at once: after hours of tokenizing the error would be too late.
        check_room(resolved, force=options.get("force", False), quiet=True)

    return resolved.spec


def _refuse_while_alive(pipeline: Pipeline, home: Path) -> None:
    for status in statuses(pipeline_runs(pipeline, Place(root=home))):
        if status.state not in ENDED:
            raise UserError(
                f"pipeline '{pipeline.name}' is still running: {status.run} is {status.state}",
                hint=f"jobctl wait {pipeline.name}, or jobctl cancel {pipeline.name}",
                code=1,
            )


def _chain(pipeline: Pipeline, specs: dict[str, JobSpec], home: Path, *, quiet: bool) -> None:
    """Submit all jobs at once. Each waits in the scheduler's queue for the one before it."""
    from jobctl.jobs.submission import start_step

    submitted: list[str] = []
    try:
        for step in pipeline.steps:
            job = start_step(specs[step.name], home)
            submitted.append(step.run)
            _say(f"{step.name}: submitted run {step.run} (job {job})", quiet)
    # This is also done on Ctrl-C: the user did not want half a pipeline. The last job is cancelled first,
    # so that none begins because the one before it has ended.
    except BaseException:
        for run in reversed(pipeline_runs(pipeline, Place(root=home))):
            if run.name in submitted:
                load_target(run.target).cancel(run)

        raise


def _one_by_one(pipeline: Pipeline, specs: dict[str, JobSpec], home: Path, *, quiet: bool) -> None:
    """Submit each job when the one before it has finished. Exit at the first that does not finish."""
    from jobctl.jobs.cli.follow import Progress, exit_code, follow, goes_on
    from jobctl.jobs.submission import check_inputs, start_step

    progress = Progress(quiet)

    for step in pipeline.steps:
        # The check comes only now, because the steps before it have made its inputs.
        check_inputs(specs[step.name])
        job = start_step(specs[step.name], home)
        _say(f"{step.name}: submitted run {step.run} (job {job})", quiet)
        with goes_on(step.run, "; the later steps are not submitted"):
            status = follow(step.run, Place(root=home), progress)[1]

        if status.state != "finished":
            _say(f"{step.name}: {describe_status(status)}", quiet=False)
            sys.exit(exit_code(status))


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        say(text, err=True)
