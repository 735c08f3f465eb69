"""Make a sweep from a command line: its combinations, and the changes of each."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from jobctl.jobs import kinds
from jobctl.jobs.catalog.schema import TrainConfig
from jobctl.jobs.cli.choices import resolution
from jobctl.jobs.cli.estimating import available_gib
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.jobs.estimate.batch import largest_batch
from jobctl.jobs.estimate.situation import situation_of
from jobctl.jobs.spec.job_spec import TrainSpec
from jobctl.jobs.spec.resolution import Resolution
from jobctl.jobs.sweeping.plan import Arm, Plan

SHARDINGS = {
    "ddp": ("use_zero1=false", "use_fsdp=false"),
    "zero1": ("use_zero1=true", "use_fsdp=false"),
    "fsdp": ("use_zero1=false", "use_fsdp=true"),
}
"""The settings that ``--set sharding=…`` means."""
TIER = "tier"
SHARDING = "sharding"
OF_THE_BATCH = ("batch_size", "gradient_accumulation_steps")
MOST_ARMS = 256
Axis = tuple[str, tuple[str, ...]]


def split_axes(sets: Sequence[str]) -> tuple[list[str], list[Axis]]:
    """Return the ``--set`` words for all combinations, and the keys with several values.

    A value with a bracket, a brace or a quotation mark is one value. Raises UserError for a key that cannot
    vary.
    """
    shared = []
    axes: list[Axis] = []
    for text in sets:
        key, equals, value = text.partition("=")
        key = key.strip()
        one = not equals or "," not in value or any(mark in value for mark in "[]{}\"'")
        if key not in (TIER, SHARDING) and (one or key not in TrainConfig.__struct_fields__):
            shared.append(text)
            continue

        values = tuple(word.strip() for word in value.split(","))
        if "" in values:
            raise UserError(f"--set {text}: a value is missing between the commas")

        # A value that is given twice would otherwise be measured twice.
        axes.append((key, tuple(dict.fromkeys(values))))

    _check_axes(axes)
    return shared, axes


def _check_axes(axes: Sequence[Axis]) -> None:
    keys = [key for key, _ in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(
                f"--set {key}=… is given twice", hint=f"name all values at once: --set {key}=a,b,c"
            )

    if "gradient_accumulation_steps" in keys:
        raise UserError(
            "--set gradient_accumulation_steps=…: a sweep keeps the batch of a step, so it computes "
            "this value from batch_size",
            hint="leave it out",
        )

    for key, values in axes:
        for value in values:
            if key == SHARDING and value not in SHARDINGS:
                raise UserError(f"--set sharding={value}; {nearest(value, SHARDINGS)}")
            if key == TIER and not value.isdigit():
                raise UserError(f"--set tier={value}: a tier is a number")


def build(
    options: Mapping[str, Any], *, find_batch: bool, interval: int, minutes: float, is_array: bool
) -> Resolution:
    """Return the job that tries all combinations.

    Raises UserError if no combination can be tried, or if no job is chosen.
    """
    shared, axes = split_axes(options["sets"])
    sizes = [_whole(value) for key, values in axes if key == "batch_size" for value in values]
    if sizes and find_batch:
        raise UserError("--find-batch finds the batch_size, but --set names it", hint="leave one of them out")

    # The batch size is no axis: each combination tries all sizes in its own arms, or searches for one.
    axes = [axis for axis in axes if axis[0] != "batch_size"]
    words = {**options, "sets": tuple(shared)}
    base = _training(words)
    spec = base.spec
    assert isinstance(spec, TrainSpec)
    # All combinations keep this number, so that their speeds are comparable.
    sequences = spec.train.batch_size * spec.train.gradient_accumulation_steps
    arms = [
        arm
        for combination in itertools.product(*[[(key, value) for value in values] for key, values in axes])
        for arm in _arms(words, spec, combination, sizes, sequences, find_batch)
    ]
    if len(arms) > MOST_ARMS:
        raise UserError(f"{len(arms)} combinations are too many", hint=f"at most {MOST_ARMS}")

    # One impossible combination is a row of the table. Only if all are impossible, no job can run.
    if all(arm.problem for arm in arms):
        raise UserError(f"no combination is possible: {arms[0].name}: {arms[0].problem}")

    plan = Plan(
        arms=tuple(arms),
        sequences=sequences,
        interval=interval,
        seconds=round(minutes * 60),
        is_array=is_array,
    )

    return _as_sweep(words, base, spec, plan)


def _whole(value: str) -> int:
    if not value.isdigit() or int(value) < 1:
        raise UserError(f"--set batch_size={value}: expected a whole number above 0")
    return int(value)


def _training(options: Mapping[str, Any]) -> Resolution:
    """Return the training whose settings are swept. Raises UserError if the words choose another job."""
    resolved = resolution(**options)
    if not isinstance(resolved.spec, TrainSpec) or not resolved.spec.job_kind.checkpoints:
        raise UserError(
            f"a sweep tries trainings, and stage {options['stage']} is not a training",
            hint="leave --stage out",
        )

    return resolved


def _arms(
    options: Mapping[str, Any],
    base: TrainSpec,
    combination: Sequence[tuple[str, str]],
    sizes: Sequence[int],
    sequences: int,
    find_batch: bool,
) -> list[Arm]:
    """Return the arms of one combination: one arm, or one for each batch size."""
    name = " ".join(f"{key}={value}" for key, value in combination)
    try:
        resolved = _training(_with(options, combination))
    except UserError as error:
        return [Arm(name=name, problem=error.message)]

    spec = resolved.spec
    assert isinstance(spec, TrainSpec)
    # All arms run in one job, so they share its processes.
    if spec.world_size != base.world_size:
        return [Arm(name=name, problem=f"it has {spec.world_size} ranks, but the job has {base.world_size}")]

    # Only differences are kept: the job's own settings apply to all arms.
    settings = changes(base, spec)
    if find_batch:
        return [Arm(name=name, settings=settings, guess=_guess(resolved, spec, sequences))]

    return [
        _of_size(name, settings, size, sequences, is_named=bool(sizes))
        for size in (sizes or [base.train.batch_size])
    ]


def _with(options: Mapping[str, Any], combination: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the options of one combination."""
    sets = list(options["sets"])
    tier = options["tier"]
    for key, value in combination:
        if key == TIER:
            tier = int(value)
        elif key == SHARDING:
            sets += SHARDINGS[value]
        else:
            sets.append(f"{key}={value}")

    return {**options, "sets": tuple(sets), "tier": tier}


def changes(base: TrainSpec, spec: TrainSpec) -> dict[str, Any]:
    """Return the keys of a training that differ, without the batch shape, which the sweep itself decides."""
    before = msgspec.to_builtins(base.train)
    after = msgspec.to_builtins(spec.train)
    return {key: after[key] for key in after if after[key] != before[key] and key not in OF_THE_BATCH}


def _of_size(name: str, settings: dict[str, Any], size: int, sequences: int, *, is_named: bool) -> Arm:
    label = f"{name} batch_size={size}".strip() if is_named else name
    if sequences % size:
        problem = f"the {sequences} sequences of a rank's step are not a multiple of {size}"
        return Arm(name=label, settings=settings, problem=problem)

    return Arm(name=label, settings=settings, batch_sizes=(size,))


def _guess(resolved: Resolution, spec: TrainSpec, sequences: int) -> int:
    """Return the largest micro-batch that fits by the estimate, within the sequences of a step."""
    situation = situation_of(spec)
    # It is at least 1, so that a combination is tried: the estimate may be wrong.
    return min(max(1, largest_batch(situation, available_gib(resolved, situation))), sequences)


def _as_sweep(options: Mapping[str, Any], base: Resolution, spec: TrainSpec, plan: Plan) -> Resolution:
    """Return the job of kind sweep on the same devices, with the training's own settings."""
    words = (kinds.SWEEP.name, *options["words"])
    # The kind decides name and time limit. The settings of the training are restored below.
    job = resolution(**{**options, "words": words, "stage": None, "tokens": None, "epochs": None})
    assert isinstance(job.spec, TrainSpec)
    resources = msgspec.structs.replace(
        job.spec.resources,
        nodes=spec.resources.nodes,
        gpus_per_node=spec.resources.gpus_per_node,
        processes_per_node=spec.resources.processes_per_node,
    )
    swept = msgspec.structs.replace(
        job.spec,
        resources=resources,
        model=spec.model,
        train=spec.train,
        inputs=msgspec.structs.replace(spec.inputs, sweep_batch_sizes=()),
        sweep=plan,
    )

    return msgspec.structs.replace(base, spec=swept, length="")
