"""Which run a verb is about: one of this host's root, or one that a cluster keeps the record of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

import jobctl
from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.cli.choices import project_choices, root
from jobctl.jobs.cli.output import warn
from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.jobs.runs import pipeline
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.pipeline import Pipeline
from jobctl.jobs.runs.store import Run
from jobctl.jobs.spec.resolution import Choices, resolve
from jobctl.jobs.targets import target
from jobctl.jobs.targets.protocol import Remote

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = [
    click.option("--target", "-g", metavar="NAME", help="Ask this target, not this host's records."),
    click.option("--site", metavar="NAME", help="Site whose context and namespace to ask."),
    click.option("--context", metavar="NAME", help="Context of the kubeconfig."),
    click.option("--namespace", "-n", metavar="NAME", help="Namespace of the cluster."),
]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where to look, as far as the user said."""

    target: str | None = None
    site: str | None = None
    context: str | None = None
    namespace: str | None = None
    root: Path | None = None

    @property
    def named(self) -> dict[str, str]:
        values = {"context": self.context, "namespace": self.namespace}
        return {key: value for key, value in values.items() if value is not None}


def place_options(command: Command) -> Command:
    """Adds the options to a command, which receives them by name and hands them to ``Place``."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def find_run(name: str, place: Place) -> Run:
    """The run called ``name``: by this host's record unless a target is named, else by the cluster's.

    Raises UserError when neither knows it.
    """
    home, remote = place.root or root(place.site), _remote(place)
    own, step = layout.split_name(name)
    here = layout.record_file(layout.run_dir(home, own)).is_file()
    if remote and (place.target or not here):
        return _find_in(*remote, name)
    run = _elsewhere(runs.read(home, own if step else name), place)
    if not step:
        return run
    scheduler = target(run.target)
    if isinstance(scheduler, Remote):  # which keeps the record of that job
        return _find_in(scheduler, msgspec.convert(run.record["spec"]["site"], Site), name)
    return _elsewhere(runs.read(home, name), place)


def _find_in(where: Remote, site: Site, name: str) -> Run:
    found = where.find(site, name)
    if found is None:
        known = [run.name for run in where.find_all(site)]
        hint = nearest(name, known) if known else "it has none"
        raise UserError(f"no run '{name}' in namespace {site.namespace}; {hint}", hint="jobctl list", code=1)
    return found


def find_pipeline(name: str, place: Place) -> Pipeline | None:
    """The pipeline that was submitted from this host's root under ``name``, if there is one."""
    return pipeline.read(place.root or root(place.site), name)


def pipeline_runs(found: Pipeline, place: Place) -> list[Run]:
    """Those of a pipeline's runs that have been submitted, in their order."""
    home = place.root or root(place.site)
    return [find_run(step.run, place) for step in found.steps if runs.is_submitted(home, step.run)]


def find_runs(place: Place) -> list[Run]:
    """Return the runs that this host has records of, and those of the cluster that is asked for.

    One that cannot be read is named on stderr, and the rest is returned.
    """
    remote = _remote(place)
    remote_runs = remote[0].find_all(remote[1]) if remote else []
    if place.target and remote:
        return remote_runs
    local_runs = runs.read_all(root(place.site), tell=lambda reason: warn([f"left out: {reason}"]))
    if place.target:
        return [run for run in local_runs if run.target == place.target]
    known = {run.name for run in remote_runs}
    return [*(_elsewhere(run, place) for run in local_runs if run.name not in known), *remote_runs]


def _remote(place: Place) -> tuple[Remote, Site] | None:
    """The target to ask and its site, where the options or the project file name one that keeps records itself."""
    project, layer = project_choices()
    name = place.target or project.target
    found = target(name)
    if not isinstance(found, Remote):
        return None
    choices = Choices(kind="prep", target=name, site=place.site or project.site, named=dict(place.named))
    return found, resolve(choices, version=jobctl.__version__, project=layer).spec.site


def _elsewhere(run: Run, place: Place) -> Run:
    """``run`` by way of another context or namespace, where the user says so."""
    if not place.named:
        return run
    spec = run.record["spec"]
    record = {**run.record, "spec": {**spec, "site": {**spec["site"], **place.named}}}
    return msgspec.structs.replace(run, record=record)
