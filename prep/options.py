"""The command line of ``python -m jobctl.prep``.

It is made of the catalogue's types, which declare each option.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from jobctl.jobs.catalog.data import DatasetEntry, PrepConfig
from jobctl.jobs.catalog.loader import load_entry, names
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.layout import source_dir
from jobctl.jobs.core.validation import expected, whole_number

OVERRIDES = (
    "text_field",
    "source_field",
    "separator",
    "validation_share",
    "min_characters",
    "max_characters",
    "languages",
    "language_field",
    "patterns",
    "validation_files",
)
"""Fields of a data set's entry that the command line may replace."""

RANK = ("SLURM_ARRAY_TASK_ID", "SLURM_PROCID", "JOB_COMPLETION_INDEX")
COUNT = ("SLURM_ARRAY_TASK_COUNT", "SLURM_NTASKS")
"""Variables of a Slurm array, of Slurm tasks and of an Indexed Job.

They only divide the work among the nodes.
"""


def number_of(variables: Sequence[str]) -> int:
    """Return the number in the first variable that holds one, or 0."""
    return next((int(value) for name in variables if (value := os.environ.get(name, "")).isdigit()), 0)


def add_fields(parser: argparse.ArgumentParser, kind: type[msgspec.Struct], chosen: Sequence[str]) -> None:
    """Add an option for each field. Its value stays text until msgspec converts it."""
    for field in msgspec.inspect.type_info(kind).fields:  # type: ignore[attr-defined]
        if field.name not in chosen:
            continue

        kind_ = field.type
        described = kind_.extra_json_schema if isinstance(kind_, msgspec.inspect.Metadata) else None
        bare = kind_.type if isinstance(kind_, msgspec.inspect.Metadata) else kind_
        # The default is None: an option that is not given keeps the value of the catalogue.
        extra: dict[str, Any] = {"default": None, "help": (described or {}).get("description", "")}
        if isinstance(bare, msgspec.inspect.BoolType):
            extra |= {"action": argparse.BooleanOptionalAction}
        elif isinstance(bare, msgspec.inspect.ListType | msgspec.inspect.DictType):
            extra |= {"nargs": "+", "metavar": "X"}
        else:
            extra |= {"metavar": "X"}

        parser.add_argument(f"--{field.name.replace('_', '-')}", dest=field.name, **extra)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m jobctl.prep", description="Turn text into token shards.", allow_abbrev=False
    )
    made.add_argument("--dataset", required=True, help="a data set of the catalogue; any name with --source")
    made.add_argument("--tokenizer", required=True, help="a tokenizer of the catalogue, or ./FOLDER")
    made.add_argument(
        "--eos-token",
        default="",
        help="token that ends a document, if the tokenizer's folder does not name it",
    )
    made.add_argument(
        "--root", type=Path, default=os.environ.get("JOBCTL_ROOT"), help="default: $JOBCTL_ROOT"
    )
    made.add_argument("--output", type=Path, help="default: ROOT/datasets/DATASET-TOKENIZER")
    made.add_argument("--source", type=Path, nargs="+", default=[], help="files or folders to read instead")
    made.add_argument(
        "--ignore-unreadable", action="store_true", help="leave out source files that prep cannot read"
    )
    made.add_argument(
        "--rank",
        type=whole_number(0),
        default=number_of(RANK),
        help="number of this node; default: the scheduler's",
    )
    made.add_argument(
        "--world-size",
        type=whole_number(1),
        default=number_of(COUNT) or 1,
        help="nodes that work on this data set",
    )
    made.add_argument("--mirror-only", action="store_true", help="only fetch the hub's files into the root")
    made.add_argument("--json", action="store_true", help="print the result as JSON")
    add_fields(made.add_argument_group("how"), PrepConfig, PrepConfig.__struct_fields__)  # type: ignore[arg-type]
    add_fields(made.add_argument_group("data, instead of the catalogue's values"), DatasetEntry, OVERRIDES)  # type: ignore[arg-type]

    return made


def with_dashes(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with a separator of dashes joined to its option.

    argparse takes ``---`` for an option.
    """
    # argparse has no public way to ask which options it knows.
    known = set(parser()._option_string_actions)
    joined: list[str] = []
    for argument in arguments:
        follows = bool(joined) and joined[-1] == "--separator"
        if follows and argument.startswith("-") and argument.partition("=")[0] not in known:
            joined[-1] = f"--separator={argument}"
        else:
            joined.append(argument)

    return joined


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line. ``None`` is the command line of this process."""
    return parser().parse_args(with_dashes(sys.argv[1:] if arguments is None else arguments))


def converted(arguments: argparse.Namespace, kind: type[Any], chosen: Sequence[str]) -> dict[str, Any]:
    """Return the given options with their types. Raises UserError that names the option."""
    given: dict[str, Any] = {}
    for name in chosen:
        value = getattr(arguments, name)
        if value is None:
            continue

        if name == "weights":
            # Split from the right: the name of a source may hold an equals sign.
            value = dict(item.rpartition("=")[::2] for item in value)

        try:
            # The conversion is not strict: the command line has text for a number.
            given[name] = getattr(msgspec.convert({name: value}, _only(kind, name), strict=False), name)
        except msgspec.ValidationError:
            words = expected(_type_of(kind, name))
            raise UserError(f"--{name.replace('_', '-')}: must be {words}, not {value!r}") from None

    return given


def _only(kind: type[Any], name: str) -> type[msgspec.Struct]:
    return msgspec.defstruct("Option", [(name, _type_of(kind, name))])


def _type_of(kind: type[Any], name: str) -> Any:
    return next(field.type for field in msgspec.structs.fields(kind) if field.name == name)


def dataset_entry(arguments: argparse.Namespace) -> DatasetEntry:
    """Return the catalogue's entry, or a new one for the user's files.

    It has the changes of the command line.
    """
    name = arguments.dataset
    # Files that the user named, or a folder of the root, need no entry of the catalogue.
    is_users_data = arguments.source or (arguments.root and source_dir(arguments.root, name).is_dir())
    if is_users_data and name not in names("datasets"):
        entry = DatasetEntry(summary="files of the user's own", license="the user's")
    else:
        entry = load_entry("datasets", name, DatasetEntry)

    return msgspec.structs.replace(entry, **converted(arguments, DatasetEntry, OVERRIDES))


def prep_config(arguments: argparse.Namespace) -> PrepConfig:
    return PrepConfig(**converted(arguments, PrepConfig, PrepConfig.__struct_fields__))
