"""The command line: every field of the schema as a flag, over the model's recipe or the checkpoint's."""

from __future__ import annotations

import dataclasses
import math
import os
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from jobctl.jobs.catalog.consistency import check_model, check_training
from jobctl.jobs.catalog.flags import FALSE, TRUE, boolean, convert, pairs, schema_fields, settings
from jobctl.jobs.catalog.loader import load_model
from jobctl.jobs.catalog.resuming import MAY_BE_ALLOWED
from jobctl.jobs.catalog.schema import ModelConfig, TrainConfig
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.jobs.core.validation import in_words

OWN_FLAGS = {
    "model": "catalogue entry that gives the architecture and its recipe",
    "model_name": "name of a model whose sizes are all given, instead of --model",
    "dataset": "folder of token shards; several as DIR=WEIGHT,DIR=WEIGHT",
    "run_dir": "folder for checkpoints, metrics and logs; a resume reads it",
    "attempt": "number of this attempt's log folder; default: the next free one",
    "device": "auto, cpu or cuda",
    "records_dir": "folder for logs and metrics of an evaluation, instead of the run directory",
    "allow_changes": "resume with other settings than the checkpoint's: alone for all of them, or KEY,KEY",
    "trial": "only measure, and never write a checkpoint",
}
STANDALONE = {"allow_changes": "all", "trial": "true"}
"""Flags of this module that need no value, and the value that they then have."""
DEVICES = ("auto", "cpu", "cuda")


@dataclasses.dataclass(frozen=True)
class Source:
    """One data set, and its share of the samples relative to the others."""

    path: Path
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of the command line, before catalogue and checkpoint fill in the rest."""

    flags: dict[str, Any]
    """Fields of ModelConfig and TrainConfig that were given, of their own types."""
    run_dir: Path
    model: str | None = None
    model_name: str | None = None
    sources: tuple[Source, ...] = ()
    attempt: int | None = None
    device: str = "auto"
    records_dir: Path | None = None
    """The folder of an evaluation's records; None: the run directory."""
    allowed_changes: frozenset[str] = frozenset()
    """Settings that may differ from those of the checkpoint, though they change the training."""
    trial: bool = False
    """Whether it only measures and writes no checkpoint."""

    @property
    def only_evaluates(self) -> bool:
        """Return whether nothing is trained. Then it may run beside a training in the same run."""
        return bool(self.flags.get("eval_only"))

    @property
    def records(self) -> Path:
        """Return the folder of this attempt's logs and metrics. Those of a training are in its run."""
        return self.records_dir if self.records_dir and self.only_evaluates else self.run_dir


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The model, the recipe and the data of a training: ``options`` and the defaults together."""

    name: str
    model: ModelConfig
    train: TrainConfig
    sources: tuple[Source, ...]


def parse(arguments: Sequence[str]) -> Options:
    """Return the command line as Options. Raises UserError for an unknown flag or an invalid value."""
    found = pairs(arguments, OWN_FLAGS, STANDALONE)
    own = {name: text for name, text in found if name in OWN_FLAGS}
    # An empty value comes from a script whose variable is not set, and is as wrong as none.
    if not own.get("run_dir"):
        raise UserError("--run_dir is missing", hint="--run_dir DIR says where checkpoints and metrics go")

    device = own.get("device", "auto")
    if device not in DEVICES:
        raise UserError(f"--device={device}; {nearest(device, DEVICES)}")

    return Options(
        flags=settings(found),
        run_dir=Path(own["run_dir"]),
        model=own.get("model"),
        model_name=own.get("model_name"),
        sources=parse_sources(own.get("dataset", "")),
        attempt=convert("attempt", own["attempt"], int_hint()) if "attempt" in own else None,
        device=device,
        records_dir=Path(own["records_dir"]) if own.get("records_dir") else None,
        allowed_changes=parse_allowed(own.get("allow_changes", "")),
        trial=boolean("trial", own.get("trial", "false")),
    )


def parse_allowed(text: str) -> frozenset[str]:
    """Return the settings that ``--allow_changes`` names. Raises UserError for one that it cannot allow."""
    if text.lower() in (STANDALONE["allow_changes"], *TRUE):
        return MAY_BE_ALLOWED

    if text.lower() in ("", *FALSE):
        return frozenset()

    names = frozenset(text.split(","))
    for name in sorted(names - MAY_BE_ALLOWED):
        raise UserError(f"--allow_changes={text}: '{name}' is not among {', '.join(sorted(MAY_BE_ALLOWED))}")

    return names


def int_hint() -> Any:
    return typing.Annotated[int, msgspec.Meta(ge=0)]


def parse_sources(text: str) -> tuple[Source, ...]:
    """``DIR`` or ``DIR=WEIGHT,DIR=WEIGHT``; a folder whose own name has ``=`` or ``,`` must stand alone."""
    if not text:
        return ()

    # os.path answers also where the text is too long for a path.
    if os.path.exists(text):
        return (Source(Path(text)),)

    sources = []

    for part in text.split(","):
        path, equals, weight = part.rpartition("=")
        # A folder may have an equals sign in its name, and then no number follows it.
        try:
            share = float(weight) if equals else 1.0
        except ValueError:
            path = part
            share = 1.0

        if not 0 < share < math.inf:  # NaN is in no range
            raise UserError(f"--dataset: the weight of {path} must be a finite number above 0, not {weight}")

        sources.append(Source(Path(path if equals and path else part), share))

    return tuple(sources)


def resolve(options: Options, recorded: Recipe | None) -> Recipe:
    """Return the catalogue's recipe, or without ``--model`` the checkpoint's. Flags override it.

    Raises UserError where neither says what to train, or the whole does not fit together.
    """
    # The command line's model wins, then the checkpoint's. Sizes alone come last.
    if options.model:
        entry = load_model(options.model)
        name = entry.name
        model = entry.config
        train = msgspec.convert(entry.train, TrainConfig)
    elif recorded:
        name = options.model_name or recorded.name
        model = recorded.model
        train = recorded.train
    elif {"architecture", "vocab_size", "hidden_size"} <= options.flags.keys():
        name = options.model_name or "custom"
        train = TrainConfig()
        model = custom_model(options.flags)
    else:
        raise UserError("--model is missing", hint="jobctl catalog list models shows all models")

    # Either all data sets of the command line or all of the checkpoint, but no mixture of both.
    sources = options.sources or (recorded.sources if recorded else ())
    if not sources:
        raise UserError(
            "--dataset is missing", hint="--dataset DIR: a folder that jobctl submit prep has written"
        )

    # The flags come last, so they win over the recipe and the checkpoint.
    model = msgspec.structs.replace(model, **chosen(options.flags, ModelConfig))
    train = msgspec.structs.replace(
        train, **other_sharding_off(options.flags), **chosen(options.flags, TrainConfig)
    )
    # Checked as a whole at the end, because flags of both may only fit together.
    check(model, train)

    return Recipe(name, model, train, sources)


def custom_model(flags: dict[str, Any]) -> ModelConfig:
    try:
        return msgspec.convert(chosen(flags, ModelConfig), ModelConfig)
    except msgspec.ValidationError as error:
        raise UserError(f"without --model every size must be given: {in_words(str(error))}") from None


def chosen(flags: dict[str, Any], struct: type[msgspec.Struct]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if name in struct.__struct_fields__}


def other_sharding_off(flags: dict[str, Any]) -> dict[str, bool]:
    """If a flag asks for one way of sharding, switch off the other one if it came from the recipe."""
    ways = ("use_zero1", "use_fsdp")
    return {way: False for way in ways if way not in flags and any(flags.get(other) for other in ways)}


def check(model: ModelConfig, train: TrainConfig) -> None:
    """Raise UserError for values that do not fit together."""
    check_model(model)
    check_training(model, train)


def usage() -> str:
    """Return the text of ``--help``."""
    lines = ["python -m jobctl.trainer --model NAME --dataset DIR --run_dir DIR [--option=value …]", ""]
    lines += [f"  --{name:<30} {text}" for name, text in OWN_FLAGS.items()]
    lines += [f"  --{name:<30} {text}" for name, (_, text) in schema_fields().items()]
    return "\n".join(lines)
