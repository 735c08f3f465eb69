"""The layers of settings from which a job is made, weakest first.

Model < hardware < tier < stage < limits of the hardware < site < project file < ``--set`` and trainer flags <
named flags. A job on the checkpoint of a run uses the run's record instead of model, hardware, tier, site and
project.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobctl.jobs import kinds
from jobctl.jobs.catalog.entries import HardwareEntry, LayerEntry, ModelEntry
from jobctl.jobs.catalog.loader import entry_path, load_entry, load_file, load_layer, names
from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.kinds import JobKind
from jobctl.jobs.spec.layers import Layer, merge, parse_set, parse_trainer_flags
from jobctl.jobs.spec.prep_flags import check_flags
from jobctl.jobs.spec.recorded import recorded_hardware, recorded_layers
from jobctl.jobs.spec.secrets import refuse_secrets
from jobctl.jobs.targets.registry import target_entry

if TYPE_CHECKING:
    from jobctl.jobs.spec.resolution import Choices

DEFAULT_SITE = "local"


def load_choice(kind: str, name: str, entry: type[Any]) -> tuple[Any, str]:
    """Return an entry and its file. ``name`` names an entry, or is the path of a file of the user."""
    if is_file_name(name):
        return load_file(Path(name), entry, hint=_missing_hint(kind, name)), name

    return load_entry(kind, name, entry), str(entry_path(kind, name))


def is_file_name(choice: str) -> bool:
    """Return whether a choice is the path of a file, and not the name of an entry of the catalogue."""
    return choice.endswith((".yaml", ".yml")) or "/" in choice


def _missing_hint(kind: str, name: str) -> str:
    """Return a hint for a missing file of the user.

    The hint tells how to make the file, or how to see the entries that need no file.
    """
    if Path(name).exists():  # the command would overwrite it
        return ""

    if kind == "sites":
        return "write it: jobctl site new --target slurm > FILE; or --target k8s"

    return f"jobctl catalog list {kind}"


def entry_name(choice: str) -> str:
    """Return the name of an entry that was chosen by name or by the path of its file."""
    name = re.sub(r"\.ya?ml$", "", choice.rsplit("/", 1)[-1])
    if not layout.RUN_NAME.fullmatch(name):
        raise UserError(f"{choice!r}: an entry's name has only letters, digits, '.', '_' and '-'")
    return name


def default_hardware(model: str) -> str:
    """Return the default hardware of a model: this machine for a smoke model, else B200, as in the guide."""
    return "cpu" if model.endswith("_smoke") else "b200"


def model_layers(choices: Choices, hardware: str, stage: str) -> list[Layer]:
    """Return the layers of the model, the hardware, the tier, the stage and the hardware's limits.

    The limits come last.
    """
    model, model_file = load_choice("models", choices.model, ModelEntry)
    machine, machine_file = load_choice("hardware", hardware, HardwareEntry)
    if str(choices.tier) not in names("tiers"):
        raise UserError(f"unknown tier '{choices.tier}'; known: {', '.join(names('tiers'))}")

    name = entry_name(choices.model)
    rules = [
        Layer(
            f"hardware {hardware} for {name} ({rule.basis})",
            rule.settings,
            machine_file,
            ("models", name, index, "settings"),
        )
        for index, rule in enumerate(machine.models.get(name, ()))
        if rule.applies(choices.tier, stage)
    ]

    return [
        Layer(f"model {name}", model.settings, model_file),
        Layer(f"hardware {hardware}", machine.settings, machine_file),
        # After the hardware's general settings, because a rule for one model is more specific.
        *rules,
        named_layer("tiers", str(choices.tier)),
        named_layer("stages", stage),
        # After tier and stage, so that they cannot ask for more than the hardware can do. A user still can.
        Layer(f"limits of {hardware}", machine.limits, machine_file, ("limits",), is_limit=True),
    ]


def hardware_of(choices: Choices, kind: JobKind) -> str:
    if choices.hardware:
        return choices.hardware

    if not kind.has_model:
        return "cpu"

    return choices.recorded.hardware if choices.recorded else default_hardware(choices.model)


def base_layers(
    choices: Choices, kind: JobKind, hardware: str, stage: str
) -> tuple[HardwareEntry, list[Layer]]:
    """Return the hardware of a job, and the layers below those of the user, weakest first."""
    recorded = choices.recorded
    if recorded is None and kind.has_model:
        return load_choice("hardware", hardware, HardwareEntry)[0], model_layers(choices, hardware, stage)

    if recorded is not None and kind.has_model and not choices.hardware:
        layers = [*recorded_layers(recorded, kind), named_layer("stages", stage)]
        return recorded_hardware(recorded), layers

    machine, file = load_choice("hardware", hardware, HardwareEntry)
    layers = [Layer(f"hardware {hardware}", machine.settings, file)]
    if recorded is None:
        return machine, layers

    layers = [*recorded_layers(recorded, kind), *layers]
    if kind.has_model:
        layers.append(named_layer("stages", stage))
        # The record was made for other hardware, so its settings must fit these limits too.
        layers.append(Layer(f"limits of {hardware}", machine.limits, file, ("limits",), is_limit=True))

    return machine, layers


def named_layer(kind: str, name: str) -> Layer:
    return Layer(f"{kind[:-1]} {name}", load_layer(kind, name).settings, str(entry_path(kind, name)))


def user_layers(choices: Choices, root: str, project: Layer | None) -> list[Layer]:
    """Return the layers of the site, the project file, ``--set``, trainer flags and named flags.

    A recorded run has the settings of its site and project in its record.
    """
    layers = []
    if choices.site or choices.recorded is None:
        site, file = load_choice("sites", choices.site or DEFAULT_SITE, LayerEntry)
        layers.append(Layer(f"site {choices.site or 'local'}", site.settings, file))

    if project and choices.recorded is None:
        layers.append(project)

    layers.append(Layer("--set", dict(parse_set(text) for text in choices.sets), by_user=True))
    if kinds.job_kind(choices.kind).has_model:
        layers.append(Layer("trainer flag", parse_trainer_flags(choices.trainer_flags), by_user=True))

    # A named flag is the most explicit choice: `--nodes 2` wins over `--set nodes=4`.
    layers.append(Layer("flag", choices.named, by_user=True))
    if root:
        # Last, because all commands of one shell use the root that it names, whatever a file says.
        layers.append(Layer("$JOBCTL_ROOT", {"root": root}))

    return layers


def limit_warnings(layers: list[Layer], values: Mapping[str, Any], origins: Mapping[str, Layer]) -> list[str]:
    limits = next(layer for layer in layers if layer.is_limit)
    wanted = merge([layer for layer in layers if layer is not limits])[0]
    return [
        f"{limits.name}: {key} is {values[key]}; the tier or the stage asked for {wanted[key]}"
        for key in limits.settings
        if origins[key] is limits and key in wanted and wanted[key] != values[key]
    ]


def old_name_warnings(layers: list[Layer]) -> list[str]:
    """Return one line for each file with the old spelling of keys, from before a site had sections."""
    warnings = []
    for layer in layers:
        old = layer.old_names()
        if layer.file and old:
            new = ", ".join(f"{name} instead of {key}" for key, name in old.items())
            warnings.append(
                f"{layer.where(next(iter(old)))}: the keys of a site are in sections now: write {new}"
            )

    return warnings


def all_layers(
    choices: Choices, hardware: str, stage: str, root: str, project: Layer | None
) -> tuple[HardwareEntry, list[Layer]]:
    """Return the hardware of a job and every layer, the weakest first.

    Raises UserError if a layer contains a secret.
    """
    kind = kinds.job_kind(choices.kind)
    if kind.makes == "data set":
        check_flags(choices.trainer_flags)

    machine, layers = base_layers(choices, kind, hardware, stage)
    layers += user_layers(choices, root, project)
    # Before the merge, while the layers still know the file and line of each value.
    refuse_secrets(layers, () if kind.has_model else choices.trainer_flags)
    if fixed := target_entry(choices.target).root:
        # Some targets mount their volume at one fixed path, so no setting can change the root.
        layers.append(Layer(f"target {choices.target}", {"root": fixed}))

    return machine, layers
