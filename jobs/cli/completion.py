"""The words that the shell completes after an option.

They are names of the catalogue, targets, runs and keys of --set.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from jobctl.jobs.catalog.loader import KINDS, names

Source = Callable[[], Iterable[str]]


def complete(command: click.Command) -> None:
    """Add a completion of values, by name, to the parameters of ``command`` and of its subcommands."""
    if isinstance(command, click.Group):
        for subcommand in command.commands.values():
            complete(subcommand)

    for parameter in command.params:
        source = _OF_COMMAND.get((command.name or "", parameter.name or "")) or _OF_NAME.get(
            parameter.name or ""
        )
        if source:
            # Each parameter of click has a method of this name. Here one object gets its own.
            setattr(parameter, "shell_complete", functools.partial(_values, parameter, source))  # noqa: B010


def _values(
    parameter: click.Parameter, source: Source, context: click.Context, incomplete: str
) -> list[CompletionItem]:
    values = [value for value in source() if value.startswith(incomplete)]
    if values:
        return [CompletionItem(value) for value in values]

    # A model, a site or a tokenizer may also be a file of the user.
    return [CompletionItem(incomplete, type="file")] if parameter.name in _FILES else []


def runs() -> list[str]:
    """Return the runs of this host's root and its pipelines, the newest first."""
    # Imported here, as in the functions below: most words do not need it, and the user waits for the Tab.
    from jobctl.jobs.cli.choices import root
    from jobctl.jobs.core import layout
    from jobctl.jobs.core.errors import UserError

    try:
        home = root()
        folders = [path for path in layout.runs(home).iterdir() if layout.RUN_NAME.fullmatch(path.name)]
        pipelines = layout.pipeline_file(home, "x").parent.glob("*.json")
        # Of the entry itself: one link to nothing must not hide all other names.
        newest = sorted(folders, key=lambda path: path.lstat().st_mtime, reverse=True)
        return [*(path.name for path in newest), *(path.stem for path in pipelines)]
    # A message would appear inside the line that the user types.
    except (OSError, UserError):
        return []


def kinds() -> list[str]:
    """Return the kinds of jobs, and the runs that a job may use."""
    from jobctl.jobs.kinds import KINDS as rows

    return [*(kind.name for kind in rows), *runs()]


def keys() -> list[str]:
    """Return the settings, each with the sign that stands before its value."""
    from jobctl.jobs.catalog.schema import KEYS

    return [f"{key}=" for key in sorted(KEYS)]


def key_names() -> list[str]:
    """Return the settings by their names alone."""
    from jobctl.jobs.catalog.schema import KEYS

    return sorted(KEYS)


def targets() -> Iterable[str]:
    """Return the targets, also those of installed packages."""
    from jobctl.jobs.targets import registry

    return registry.names()


def steps() -> Iterable[str]:
    """Return the steps of a pipeline."""
    from jobctl.jobs.runs.pipeline import STEPS

    return STEPS


def entries() -> list[str]:
    """Return every name of the catalogue."""
    return sorted({name for kind in KINDS for name in names(kind)})


def _catalogue(kind: str) -> Source:
    return lambda: names(kind)


_OF_NAME: dict[str, Source] = {
    "model": _catalogue("models"),
    "hardware": _catalogue("hardware"),
    "tier": _catalogue("tiers"),
    "stage": _catalogue("stages"),
    "site": _catalogue("sites"),
    "dataset": _catalogue("datasets"),
    "tokenizer": _catalogue("tokenizers"),
    "target": targets,
    "run": runs,
    "runs": runs,
    "after": runs,
    "sets": keys,
    "described": key_names,
    "skip": steps,
    "words": kinds,
}
"""The source of a parameter's values, by its name. A name means the same in all commands."""
_OF_COMMAND: dict[tuple[str, str], Source] = {
    ("show", "name"): entries,
    ("tokenizer", "name"): _catalogue("tokenizers"),
}
"""The same, by command, for parameters whose name is ambiguous."""
_FILES = ("model", "site", "tokenizer", "hardware")
