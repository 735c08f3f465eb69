"""The options that choose a job, for every command that resolves one."""

from __future__ import annotations

import difflib
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

import jobctl
from jobctl.jobs import kinds
from jobctl.jobs.catalog import flags
from jobctl.jobs.catalog.loader import convert, line_of, parse_yaml
from jobctl.jobs.catalog.schema import KEYS, SITE_SECTIONS
from jobctl.jobs.catalog.schema.keys import nearest_key, split_key
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.jobs.core.reading import is_text_file, read_text_file
from jobctl.jobs.core.tokenizer_files import is_folder
from jobctl.jobs.datasets import dataset_size, tokenizer_ids
from jobctl.jobs.kinds import JobKind
from jobctl.jobs.monitoring.notify_settings import Notify
from jobctl.jobs.spec import tokenizer_folder
from jobctl.jobs.spec.gathering import entry_name
from jobctl.jobs.spec.job_spec import JobSpec, TrainSpec
from jobctl.jobs.spec.layers import Layer
from jobctl.jobs.spec.patch import SOURCE, describe
from jobctl.jobs.spec.resolution import Choices, Resolution, absolute_root, load_site, resolve
from jobctl.jobs.spec.tokenizer_folder import TokenizerFolder
from jobctl.jobs.targets import registry
from jobctl.jobs.targets.registry import target_entry

Command = TypeVar("Command", bound=Callable[..., Any])
PROJECT_FILE = "jobctl.yaml"


class Project(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``jobctl.yaml``: the choices of one project, for all that the command line does not choose."""

    target: str = registry.DEFAULT
    site: str | None = None
    hardware: str | None = None
    model: str | None = None
    """The model for commands that name none."""
    settings: dict[str, Any] = {}
    notify: Notify = Notify()
    """The receivers to which ``jobctl watch --notify`` sends the events of runs."""


TRUST_OPTION = click.option(
    "--trust-owner",
    "trusted",
    metavar="NAME",
    multiple=True,
    help="Also execute and change files of the run that NAME owns; 'everyone' allows all owners.",
)
FORCE_OPTION = click.option(
    "--force", is_flag=True, help="Continue even if the estimate says that the job does not fit into memory."
)
OPTIONS = [
    click.argument(
        "words",
        nargs=-1,
        type=click.UNPROCESSED,
        metavar=f"[{'|'.join(k.name for k in kinds.KINDS if k is not kinds.TRAIN)}] [-- FLAGS]",
    ),
    click.option("--model", "-m", metavar="NAME", help="Model of the catalogue, or a YAML file."),
    click.option("--tier", "-t", type=int, default=1, show_default=True, help="Optimisation level, 1 to 4."),
    click.option("--hardware", metavar="NAME", help="Node type; b200, or cpu for a smoke model."),
    click.option("--stage", metavar="NAME", help="smoke, mfu, train, eval or sweep.  [default: train]"),
    click.option(
        "--target",
        "-g",
        metavar="NAME",
        help=f"{', '.join(entry.name for entry in registry.BUILT_IN)}, or an installed package's."
        f"  [default: {registry.DEFAULT}]",
    ),
    click.option("--site", metavar="NAME", help="Site of the catalogue, or a YAML file."),
    click.option("--nodes", "-N", type=int, help="Nodes of the job."),
    click.option("--gpus-per-node", type=int, help="GPUs on each node."),
    click.option("--context", metavar="NAME", help="Context of the kubeconfig."),
    click.option("--namespace", "-n", metavar="NAME", help="Namespace of the cluster."),
    click.option("--run", metavar="NAME", help="Name of the run."),
    click.option("--after", metavar="RUN", multiple=True, help="Start when that run has finished."),
    click.option("--image", metavar="REF", help="Container image."),
    click.option("--patch", is_flag=True, help="Run this source tree instead of the image's code."),
    click.option("--dataset", metavar="NAME", help="Data set of the catalogue."),
    click.option(
        "--tokenizer", metavar="NAME", help="Tokenizer of the catalogue, or ./FOLDER of a tokenizer.json."
    ),
    click.option(
        "--init-from", metavar="SOURCE", help="Weights of a new run: hf:FOLDER, run:NAME or run:NAME@STEP."
    ),
    click.option("--tokens", metavar="N", help="Length of the training: 81.7e9, 82B, or optimal."),
    click.option("--epochs", type=float, metavar="N", help="Length of the training in passes over its data."),
    TRUST_OPTION,
    click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Any key of the catalogue."),
]


class ChoiceCommand(click.Command):
    """A command that chooses a job. It takes the trainer's flags before and after ``--``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = {name for option in self.params for name in (*option.opts, *option.secondary_opts)}
        words, given = flags.separate(args, {*options, *ctx.help_option_names})
        # Click does not look for our options after `--`.
        return super().parse_args(ctx, [*words, "--", *given] if given else words)


def is_being_written(site: str | None) -> bool:
    """Return whether a site file is empty: the shell empties the target of ``>`` before jobctl reads it."""
    # The path may be of another machine, whose file came with the request.
    return site is not None and is_text_file(Path(site)) and not read_text_file(site)


def choice_options(command: Command) -> Command:
    """Add the options to a command. It receives them by name and passes them to ``resolution``."""
    # Click shows the option first that was added last.
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def root(site: str | None = None) -> Path:
    """Return $JOBCTL_ROOT, else the root of ``site``, or of the project file and its site, else ~/jobctl."""
    if chosen := os.environ.get("JOBCTL_ROOT"):
        return Path(chosen).expanduser().absolute()

    project, layer = project_choices()
    chosen = absolute_root(load_site(site or project.site, project=layer).root)
    return Path(chosen or Path.home() / "jobctl")


def resolution(
    *, words: tuple[str, ...], run: str | None, stamp: str = "", from_record: bool = True, **options: Any
) -> Resolution:
    """Return the job that a command line describes. ``stamp`` is the time of a submission.

    A job on the checkpoint of a run takes its settings from the run's record, unless ``from_record`` is
    false: the steps of a pipeline are chosen before any of them has run. Raises UserError.
    """
    kind, rest = _split(words)
    run, trainer_flags = _run_of(kind, rest, run)
    recorded = _recorded(kind, run, options) if from_record else None
    project, layer = project_choices()
    # The record has precedence over the project file, which may have changed since the run began.
    model = options["model"] or _recorded_model(recorded) or project.model
    if kind.has_model and not model:
        raise UserError("no model chosen", hint="--model NAME; jobctl catalog list models")

    target = options["target"] or (recorded.target if recorded else project.target)
    if options["patch"]:
        _check_patch(target, stamp)

    tokenizer = options["tokenizer"]
    folder: TokenizerFolder | None = None
    if tokenizer and is_folder(tokenizer):
        tokenizer, folder = _tokenizer_folder(kind, target, tokenizer)

    choices = Choices(
        kind=kind.name,
        model=model or "",
        hardware=options["hardware"] or (None if recorded else project.hardware),
        tier=options["tier"],
        stage=options["stage"],
        target=target,
        site=options["site"] or (None if recorded else project.site),
        run=run,
        after=options["after"],
        sets=options["sets"],
        trainer_flags=trainer_flags,
        named=_named_settings({**options, "tokenizer": tokenizer}),
        trusted=options.get("trusted", ()),
        patch=describe(SOURCE) if options["patch"] else None,
        tokenizer_folder=folder,
        tokens=options.get("tokens"),
        epochs=options.get("epochs"),
        recorded=recorded,
    )

    return _resolved(choices, layer, stamp)


def _resolved(choices: Choices, layer: Layer | None, stamp: str) -> Resolution:
    """Return the job of ``choices``, over the project file's ``layer`` and this user's root."""
    find = functools.partial(
        resolve,
        version=jobctl.__version__,
        root=os.environ.get("JOBCTL_ROOT", ""),
        project=layer,
        default_root=str(Path.home() / "jobctl"),
        stamp=stamp,
        dataset_size=dataset_size,
        tokenizer_ids=tokenizer_ids,
    )

    # Imported here: a render without it starts faster.
    if any(text.replace(" ", "") == "batch_size=auto" for text in choices.sets):
        from jobctl.jobs.cli.room import resolve_with_auto

        return resolve_with_auto(choices, find)

    return find(choices)


def named_run(words: tuple[str, ...], run: str | None) -> str | None:
    """Return the run that a command line names, by ``--run`` or after the kind of job."""
    kind, rest = _split(words)
    return _run_of(kind, rest, run)[0]


def _run_of(kind: JobKind, words: tuple[str, ...], run: str | None) -> tuple[str | None, tuple[str, ...]]:
    """Return the run of a job, and the flags. ``eval RUN`` is short for ``eval --run RUN``."""
    if not kind.reads_checkpoint or not words or words[0].startswith("-"):
        return run, words

    if run is not None and run != words[0]:
        raise UserError(f"the command names two runs, {words[0]} and {run}", hint="name one of them")

    return words[0], words[1:]


def _recorded(kind: JobKind, run: str | None, options: Mapping[str, Any]) -> JobSpec | None:
    """Return the run whose checkpoint a job reads, as it is recorded; None if a new run is chosen.

    With ``--model`` the job is chosen like a training, for a run that has no record yet. Raises UserError if
    the run is unknown, or if it has another model.
    """
    if run is None or not kind.reads_checkpoint:
        return None

    # Imported here: finding imports this module.
    from jobctl.jobs.cli.finding import Place, find_run

    model = options["model"]
    place = Place(**{key: options[key] for key in ("target", "site", "context", "namespace")})
    try:
        # The edits are included: the checkpoint comes from attempts that had them.
        spec = find_run(run, place).record.edited_spec
    except UserError:
        if kind.has_model and not model:
            raise

        return None

    if model and isinstance(spec, TrainSpec) and entry_name(model) != spec.model_name:
        raise UserError(
            f"run {run} trains {spec.model_name}, not {entry_name(model)}", hint="leave out --model"
        )

    return spec


def _recorded_model(recorded: JobSpec | None) -> str:
    return recorded.model_name if isinstance(recorded, TrainSpec) else ""


def _named_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that have an option of their own, by their keys."""
    named = {key: options[key] for key in ("nodes", "gpus_per_node", "image", "dataset", "tokenizer")}
    named |= {f"kubernetes.{key}": options[key] for key in ("context", "namespace")}
    named["init_from"] = options.get("init_from")
    if options["patch"]:
        # In a submission the run's copy of the tree replaces it, as soon as the run has a name.
        named["project_dir"] = str(SOURCE)

    return {key: value for key, value in named.items() if value is not None}


def _check_patch(target: str, stamp: str) -> None:
    """Raise UserError without a submission, if the jobs of ``target`` do not see this host's files."""
    if not stamp and not target_entry(target).shares_files:
        raise UserError(
            f"--patch: jobs on {target} cannot read this machine's files, and only a submission copies them",
            hint="jobctl submit --patch; or make image, push it to your registry, and name it: --image REF",
        )


def _tokenizer_folder(kind: JobKind, target: str, given: str) -> tuple[str, TokenizerFolder]:
    """Return the name of the tokenizer in a folder, and its description.

    Raises UserError for a job that fetches a tokenizer, because a folder is already here. Raises UserError
    also if the jobs of ``target`` do not see the folder.
    """
    name, folder = tokenizer_folder.describe(given)
    if kind is kinds.TOKENIZER:
        raise UserError(
            f"--tokenizer {given} is a folder, so jobctl does not need to fetch it",
            hint=f"jobctl submit prep --tokenizer {given}",
        )

    if kind.makes == "data set" and not target_entry(target).shares_files:
        raise UserError(
            f"--tokenizer {given}: jobs on {target} cannot read this machine's files",
            hint=f"copy it to tokenizers/{name} on the cluster's volume, then use --tokenizer {name}",
        )

    return name, folder


def _split(words: tuple[str, ...]) -> tuple[JobKind, tuple[str, ...]]:
    """Return the kind of job that a command line names, and the flags after it."""
    if not words or words[0].startswith("-"):
        return kinds.TRAIN, words
    return kinds.job_kind(words[0]), words[1:]


def path_of_file(file: str) -> str:
    """Return a user's file as a path with a folder. A word without a folder is the name of an entry."""
    return os.path.join(os.curdir, file) if os.sep not in file and is_text_file(Path(file)) else file


def project_choices() -> tuple[Project, Layer | None]:
    """Return the project file of the working directory, if it exists.

    A file without ``settings:`` has its settings next to the choices. Users with few settings expect that.
    """
    path = Path(PROJECT_FILE)
    if not is_text_file(path):
        return Project(), None

    text = read_text_file(path)
    entries = parse_yaml(text, str(path))
    if entries is None:  # all of its lines are comments
        entries = {}

    if not isinstance(entries, dict):
        raise UserError(f"{path}:1: must be a mapping of keys to values")

    name = f"project file {PROJECT_FILE}"
    if "settings" in entries:
        # All lines below `settings:` may be comments.
        entries = {**entries, "settings": entries["settings"] or {}}
        project = convert(entries, Project, text, str(path))
        return project, Layer(name, project.settings, str(path), by_user=True)

    for key in entries:
        _check_project_key(key, path, text)

    choices = {key: value for key, value in entries.items() if key in Project.__struct_fields__}
    settings = {key: value for key, value in entries.items() if key not in choices}
    project = convert(choices, Project, text, str(path))
    # The path is empty: the settings are at the top of the file, and messages name their lines.
    return project, Layer(name, settings, str(path), (), by_user=True)


def _check_project_key(spelled: str, path: Path, text: str) -> None:
    """Raise UserError for a key that is neither a choice nor a setting.

    It is raised before an error about the missing choice.
    """
    name = split_key(str(spelled))[0]
    if name in Project.__struct_fields__ or name in KEYS or name in SITE_SECTIONS:
        return

    # Layer checks the keys of a section, because it knows them.
    if name.partition(".")[0] in SITE_SECTIONS:
        return

    # Choices are compared before the many settings: 'modle' is nearer to 'modules' than to 'model'.
    choices = difflib.get_close_matches(name, Project.__struct_fields__, n=1, cutoff=0.7)
    near = nearest(name, choices) if choices else nearest_key(name)
    raise UserError(f"{path}:{line_of(text, spelled)}: unknown key '{name}'; {near}")
