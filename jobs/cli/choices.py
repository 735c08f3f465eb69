"""The options that choose a job, shared by every command that resolves one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

import jobctl
from jobctl.jobs.catalog.loader import load_file
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.spec.job_spec import JobSpec
from jobctl.jobs.spec.layers import Layer
from jobctl.jobs.spec.patch import SOURCE, describe
from jobctl.jobs.spec.resolution import Choices, Resolution, resolve
from jobctl.jobs.targets import target
from jobctl.jobs.targets.protocol import Remote

Command = TypeVar("Command", bound=Callable[..., Any])
KINDS = ("train", "tokenizer", "prep", "preflight", "eval", "export", "sweep")
PROJECT_FILE = "jobctl.yaml"


class Project(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``jobctl.yaml``: what one project chooses where the command line does not say."""

    target: str = "local"
    site: str | None = None
    hardware: str | None = None
    settings: dict[str, Any] = {}


TRUST_OPTION = click.option(
    "--trust-owner",
    "trusted",
    metavar="NAME",
    multiple=True,
    help="Execute and write into what NAME owns in the run as well; 'everyone' allows all.",
)
OPTIONS = [
    click.argument(
        "words",
        nargs=-1,
        type=click.UNPROCESSED,
        metavar="[tokenizer|prep|preflight|eval|export|sweep] [-- FLAGS]",
    ),
    click.option("--model", "-m", metavar="NAME", help="Model of the catalogue, or a YAML file."),
    click.option("--tier", "-t", type=int, default=1, show_default=True, help="Optimisation level, 1 to 4."),
    click.option("--hardware", metavar="NAME", help="Node type; b200, or cpu for a smoke model."),
    click.option("--stage", metavar="NAME", help="smoke, mfu, train, eval or sweep.  [default: train]"),
    click.option(
        "--target", "-g", metavar="NAME", help="local, slurm, k8s, k8s-trainjob or docker.  [default: local]"
    ),
    click.option("--site", metavar="NAME", help="Site of the catalogue, or a YAML file."),
    click.option("--nodes", "-N", type=int, help="Nodes of the job."),
    click.option("--gpus-per-node", type=int, help="GPUs on each node."),
    click.option("--context", metavar="NAME", help="Context of the kubeconfig."),
    click.option("--namespace", "-n", metavar="NAME", help="Namespace of the cluster."),
    click.option("--run", metavar="NAME", help="Name of the run."),
    click.option("--after", metavar="RUN", multiple=True, help="Start when that run has finished."),
    click.option("--image", metavar="REF", help="Container image."),
    click.option("--patch", is_flag=True, help="Run this source tree in the place of the image's code."),
    click.option("--dataset", metavar="NAME", help="Data set of the catalogue."),
    click.option("--tokenizer", metavar="NAME", help="Tokenizer of the catalogue."),
    TRUST_OPTION,
    click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Any key of the catalogue."),
]


def choice_options(command: Command) -> Command:
    """Adds the options to a command, which receives them by name and hands them to ``resolution``."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def root(site: str | None = None) -> Path:
    """$JOBCTL_ROOT, or the root of ``site`` or of the project file and its site, or ``~/jobctl``."""
    if chosen := os.environ.get("JOBCTL_ROOT"):
        return Path(chosen).expanduser().absolute()
    project, layer = project_choices()
    choices = Choices(kind="prep", site=site or project.site)
    found = resolve(choices, version=jobctl.__version__, project=layer).spec.site.root
    return Path(found or Path.home() / "jobctl").expanduser().absolute()


def resolution(
    *, words: tuple[str, ...], run: str | None, trusted: tuple[str, ...] = (), **options: Any
) -> Resolution:
    """The job that a command line describes. Raises UserError."""
    kind, flags = _split(words)
    stage = options["stage"]
    if kind in ("eval", "sweep"):
        if stage not in (None, kind):
            raise UserError(f"{kind} and --stage {stage} contradict each other")
        kind, stage = "train", kind
    if kind == "train" and not options["model"]:
        raise UserError("no model chosen", hint="--model NAME; jobctl catalog list models")
    keys = ("nodes", "gpus_per_node", "image", "dataset", "tokenizer", "context", "namespace")
    named = {key: options[key] for key in keys}
    if options["patch"]:
        named["project_dir"] = str(SOURCE)
    project, layer = project_choices()
    choices = Choices(
        kind=kind,
        model=options["model"] or "",
        hardware=options["hardware"] or project.hardware,
        tier=options["tier"],
        stage=stage or "train",
        target=options["target"] or project.target,
        site=options["site"] or project.site,
        run=run,
        after=options["after"],
        sets=options["sets"],
        trainer_flags=flags,
        named={key: value for key, value in named.items() if value is not None},
    )
    found = resolve(
        choices, version=jobctl.__version__, root=os.environ.get("JOBCTL_ROOT", ""), project=layer
    )
    spec = found.spec
    if trusted:
        spec = msgspec.structs.replace(spec, trusted=trusted)
    if options["patch"]:
        spec = _patched(spec)
    home = Path(spec.site.root).expanduser().absolute() if spec.site.root else root()
    spec = msgspec.structs.replace(spec, site=msgspec.structs.replace(spec.site, root=str(home)))
    return msgspec.structs.replace(found, spec=spec)


def _patched(spec: JobSpec) -> JobSpec:
    if isinstance(target(spec.target), Remote):
        raise UserError(
            "--patch: pods do not see this machine's files",
            hint="make image, push it to your registry, and name it: --image REF",
        )
    return msgspec.structs.replace(spec, patch=describe(SOURCE))


def _split(words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    if not words or words[0].startswith("-"):
        return "train", words
    if words[0] not in KINDS:
        raise UserError(f"unknown kind of job '{words[0]}'; known: {', '.join(KINDS)}")
    return words[0], words[1:]


def project_choices() -> tuple[Project, Layer | None]:
    """The project file of the working directory, if there is one."""
    path = Path(PROJECT_FILE)
    if not path.is_file():
        return Project(), None
    project = load_file(path, Project)
    return project, Layer(f"project file {PROJECT_FILE}", project.settings, str(path))
