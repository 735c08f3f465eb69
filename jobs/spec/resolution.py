"""Make a job spec from a user's choices.

Gather the layers, merge and validate them, and keep the origin of each value. Layers, weakest first: model <
hardware < tier < stage < limits of the hardware < site < project file < ``--set`` and trainer flags < named
flags.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from jobctl.jobs import kinds
from jobctl.jobs.catalog.entries import HardwareEntry, ModelEntry
from jobctl.jobs.catalog.schema import Inputs, ModelConfig, Resources, Site, TrainConfig
from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.checks import check_job, check_names, check_training, check_vocabulary
from jobctl.jobs.spec.foreign import refuse_foreign
from jobctl.jobs.spec.gathering import (
    DEFAULT_SITE,
    all_layers,
    entry_name,
    hardware_of,
    limit_warnings,
    load_choice,
    old_name_warnings,
    user_layers,
)
from jobctl.jobs.spec.grace import grace_in_words, grace_layer
from jobctl.jobs.spec.job_spec import JobSpec, TrainSpec
from jobctl.jobs.spec.layers import Layer, merge, section, site_of
from jobctl.jobs.spec.length import AskedLength, DatasetSize, catalogue_size, describe_length, length_layer
from jobctl.jobs.spec.patch import Patch
from jobctl.jobs.spec.tokenizer_folder import TokenizerFolder, catalogue_ids
from jobctl.jobs.targets import registry
from jobctl.jobs.targets.registry import TargetEntry, target_entry

DEFAULT_STAGE = "train"


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """The choices of a user. They and the catalogue determine everything else."""

    kind: str = kinds.TRAIN.name
    model: str = ""
    """The model to train. It is empty for a kind of job that has no model."""
    hardware: str | None = None
    tier: int = 1
    stage: str | None = None
    """The stage. None: the stage of the kind."""
    target: str = registry.DEFAULT
    site: str | None = None
    run: str | None = None
    after: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    trainer_flags: tuple[str, ...] = ()
    named: dict[str, Any] = {}
    """The values of named flags by catalogue key: ``--nodes 2`` is ``{"nodes": 2}``."""
    patch: Patch | None = None
    """The source tree that runs instead of the image's code."""
    tokenizer_folder: TokenizerFolder | None = None
    """The folder of the tokenizer that ``named`` names, if the user gave one."""
    trusted: tuple[str, ...] = ()
    """Owners whose files the job may execute and write to."""
    tokens: str | None = None
    """The length of a training in tokens, as ``--tokens`` spells it.

    None: the catalogue's number of steps.
    """
    epochs: float | None = None
    """The length of a training in passes over its data set."""
    recorded: JobSpec | None = None
    """The run whose checkpoint the job reads. Settings that the user leaves out come from its record."""

    @property
    def sets_length(self) -> bool:
        """Return whether ``tokens`` or ``epochs`` determines the number of steps."""
        return self.tokens is not None or self.epochs is not None


class Resolution(msgspec.Struct, frozen=True):
    """A spec, the layer that set each flat key, and warnings for the user."""

    spec: JobSpec
    origins: dict[str, str]
    warnings: tuple[str, ...]
    length: str = ""
    """One line about the tokens of a training, its share of the optimum and its epochs.

    Empty for any other job.
    """
    machine: HardwareEntry | None = None
    optimal_tokens: float = 0.0
    """The compute-optimal tokens of the model's entry; 0 if it has none."""


def _stage_of(choices: Choices) -> str:
    """Return the stage of a job with a model. Raises UserError if its kind has another stage."""
    kind = kinds.job_kind(choices.kind)
    if kind.stage and choices.stage not in (None, kind.stage):
        raise UserError(f"{kind.name} and --stage {choices.stage} contradict each other")

    return choices.stage or kind.stage or DEFAULT_STAGE


def load_site(
    site: str | None = None,
    *,
    root: str = "",
    project: Layer | None = None,
    named: Mapping[str, Any] | None = None,
) -> Site:
    """Return the settings of a site, of the project file and of named flags, without a job.

    Raises UserError for an unknown site or key.
    """
    choices = Choices(kind=kinds.PREP.name, site=site, named=dict(named or {}))
    values, origins = merge(user_layers(choices, root, project))
    return site_of(values, origins)


def absolute_root(root: str) -> str:
    """Return ``root`` as an absolute path without ``~``. An empty text stays empty."""
    return str(Path(root).expanduser().absolute()) if root else ""


def resolve(
    choices: Choices,
    *,
    version: str,
    root: str = "",
    project: Layer | None = None,
    default_root: str = "",
    stamp: str = "",
    dataset_size: Callable[[JobSpec], DatasetSize | None] = catalogue_size,
    tokenizer_ids: Callable[[JobSpec], int | None] = catalogue_ids,
) -> Resolution:
    """Return the job that ``choices`` describe. Its spec does not change afterwards.

    ``root`` is $JOBCTL_ROOT if it is set. ``default_root`` is the root if no layer sets one. ``stamp`` is the
    time of a submission. It completes the name of a run without a chosen name, and a patched job then takes
    its code from a copy in the run directory. Without a stamp the spec is only rendered. ``dataset_size``
    returns the size of a job's data set, or None if it is unknown. ``tokenizer_ids`` returns the number of
    ids of its tokenizer, or None if this host cannot know it.

    Raises UserError for anything unknown, impossible or contradictory.
    """
    # Check names first. Later they become paths and words of commands.
    check_names(choices.run, choices.after, kinds.recorded_kind(choices.kind, choices.stage or "").name)
    kind = kinds.job_kind(choices.kind)
    stage = _stage_of(choices)
    target = target_entry(choices.target)
    hardware = hardware_of(choices, kind)
    refuse_foreign(choices.sets, target)
    machine, layers = all_layers(choices, hardware, stage, root, project)
    # After all other layers, because it reads the time limit that they set.
    shorter = _fit_warning(choices, stage, layers, default_root)
    values, origins = _merge(layers, default_root)
    job = _job_fields(choices, version, hardware, machine)
    if choices.sets_length:
        # The steps follow from the batch, so the batch is resolved first.
        batch = _build(choices, stage, job, values, origins)
        asked = AskedLength(tokens=choices.tokens, epochs=choices.epochs)
        layers.append(length_layer(asked, batch, origins, _optimal_tokens(choices), dataset_size(batch)))
        values, origins = _merge(layers, default_root)

    build = functools.partial(_build, choices, stage, job, values, origins)
    spec = _with_run(build, choices, target, stamp)
    # Check the final spec and not its parts, because limits of one layer apply to values of another.
    check_job(spec, gpus_on_a_node=int(str(machine.settings.get("gpus_per_node", 0))))

    strange = _check_tokenizer(spec, tokenizer_ids)
    length, doubts = _length_in_words(choices, spec, dataset_size)
    limits = limit_warnings(layers, values, origins) if kind.has_model and choices.tier > 1 else []
    return Resolution(
        spec,
        {key: layer.name for key, layer in origins.items()},
        (*old_name_warnings(layers), *limits, *grace_in_words(shorter), *strange, *doubts),
        length,
        machine,
        _optimal_tokens(choices) if kind.has_model else 0.0,
    )


def _fit_warning(choices: Choices, stage: str, layers: list[Layer], default_root: str) -> Layer | None:
    """Add a layer with a shorter warning if the time limit is short. Return that layer, or None."""
    if not target_entry(choices.target).warns_early:
        return None

    shorter = grace_layer(kinds.recorded_kind(choices.kind, stage), *_merge(layers, default_root))
    if shorter:
        layers.append(shorter)

    return shorter


def _merge(layers: list[Layer], default_root: str) -> tuple[dict[str, Any], dict[str, Layer]]:
    values, origins = merge(layers)
    return values | {"root": absolute_root(values.get("root", "")) or default_root}, origins


def _length_in_words(
    choices: Choices, spec: JobSpec, dataset_size: Callable[[JobSpec], DatasetSize | None]
) -> tuple[str, list[str]]:
    """Return the length of a training in words, and its doubts. For any other job both are empty."""
    if not isinstance(spec, TrainSpec) or not spec.job_kind.checkpoints:
        return "", []

    length, doubts = describe_length(spec, _optimal_tokens(choices), dataset_size(spec))
    # Any other stage is short on purpose.
    return length, doubts if spec.stage == DEFAULT_STAGE else []


def _check_tokenizer(spec: JobSpec, tokenizer_ids: Callable[[JobSpec], int | None]) -> list[str]:
    """Raise UserError for an unknown tokenizer, or for one with ids that the model does not have.

    Return a warning if this host cannot know the ids.
    """
    if not isinstance(spec, TrainSpec):
        return []

    ids = tokenizer_ids(spec)
    if ids is not None:
        check_vocabulary(spec, ids)
        return []

    return [
        f"tokenizer '{spec.inputs.tokenizer}' is not in the catalogue: jobctl does not check that the model "
        "has a row for each of its ids"
    ]


def _optimal_tokens(choices: Choices) -> float:
    entry: ModelEntry = load_choice("models", choices.model, ModelEntry)[0]
    return entry.optimal_tokens


def _job_fields(choices: Choices, version: str, hardware: str, machine: HardwareEntry) -> dict[str, Any]:
    """Return the fields of a spec that no layer sets."""
    kind = kinds.job_kind(choices.kind)
    # A job on a checkpoint stays at the site of its run.
    site = choices.recorded.site_name if choices.recorded else DEFAULT_SITE
    return {
        "version": version,
        # Evaluations and sweeps are trainings. Their stage tells the difference (`recorded_kind`).
        "kind": kinds.TRAIN.name if kind.has_model else kind.name,
        "hardware": entry_name(hardware),
        "target": choices.target,
        "site_name": entry_name(choices.site or site),
        "run": choices.run,
        "after": choices.after,
        "arguments": () if kind.has_model else choices.trainer_flags,
        "facts": machine.facts,
        "patch": choices.patch or msgspec.UNSET,
        "tokenizer_folder": choices.tokenizer_folder or msgspec.UNSET,
        "trusted": choices.trusted or msgspec.UNSET,
    }


def _with_run(build: Callable[..., JobSpec], choices: Choices, target: TargetEntry, stamp: str) -> JobSpec:
    """Return the spec with the name of its run. If the user chose no name, it follows from the spec."""
    # The name may depend on the spec, so the first spec has none.
    spec = build()
    run = choices.run
    if run is None and stamp:
        run = f"{spec.run_prefix}-{stamp}"
    elif run is None and target.names_by_content:
        # A manifest needs its name when it is rendered. With the hash, equal settings get the same name.
        run = f"{spec.run_prefix}-{spec.fingerprint()[:8]}"

    changes: dict[str, Any] = {"run": run}
    # A submission copies the tree into the run's folder, and the job reads that copy.
    if choices.patch and stamp and run:
        folder = layout.code_dir(
            layout.run_dir(Path(spec.site.root), run), spec.step if spec.on_a_checkpoint else ""
        )
        changes["project_dir"] = str(folder)

    # A second build checks the changes like all other values.
    return build(**changes) if changes != {"run": spec.run} else spec


def _build(
    choices: Choices,
    stage: str,
    job: Mapping[str, Any],
    values: Mapping[str, Any],
    origins: Mapping[str, Layer],
    **changes: Any,
) -> JobSpec:
    """Return the spec from the merged values. ``changes`` are its run and the folder of its code."""
    if "project_dir" in changes:
        values = {**values, "project_dir": changes.pop("project_dir")}

    fields = {
        **job,
        **changes,
        "resources": section(Resources, values, origins),
        "inputs": section(Inputs, values, origins),
        "site": site_of(values, origins),
    }

    if kinds.job_kind(choices.kind).has_model:
        return _train_spec(choices, stage, fields, values, origins)

    return JobSpec(**fields)


def _train_spec(
    choices: Choices, stage: str, job: dict[str, Any], values: Mapping[str, Any], origins: Mapping[str, Layer]
) -> TrainSpec:
    spec = TrainSpec(
        **job,
        model_name=entry_name(choices.model),
        # A job on a checkpoint keeps the tier of its training.
        tier=choices.recorded.tier if isinstance(choices.recorded, TrainSpec) else choices.tier,
        stage=stage,
        model=section(ModelConfig, values, origins),
        train=section(TrainConfig, values, origins),
    )

    check_training(spec)
    return spec
