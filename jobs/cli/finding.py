"""Find the run of a verb: a run of this host's root, or one whose record a cluster keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from jobctl.jobs import kinds
from jobctl.jobs.catalog.schema import Site
from jobctl.jobs.cli.choices import project_choices, root
from jobctl.jobs.cli.output import warn
from jobctl.jobs.core import layout
from jobctl.jobs.core.errors import UserError, nearest
from jobctl.jobs.runs import pipeline
from jobctl.jobs.runs import store as runs
from jobctl.jobs.runs.pipeline import Pipeline
from jobctl.jobs.runs.places import at_site
from jobctl.jobs.runs.store import Run
from jobctl.jobs.spec.resolution import load_site
from jobctl.jobs.targets.registry import target_entry

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = [
    click.option(
        "--target", "-g", metavar="NAME", help="Ask this target instead of reading the records on this host."
    ),
    click.option("--site", metavar="NAME", help="Site that names the context and namespace to ask."),
    click.option("--context", metavar="NAME", help="Context of the kubeconfig."),
    click.option("--namespace", "-n", metavar="NAME", help="Namespace of the cluster."),
]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The place of a run, as far as the user named it."""

    target: str | None = None
    site: str | None = None
    context: str | None = None
    namespace: str | None = None
    root: Path | None = None

    @property
    def named(self) -> dict[str, str]:
        """Return the settings of the cluster that the user named."""
        values = {"context": self.context, "namespace": self.namespace}
        return {key: value for key, value in values.items() if value is not None}

    @property
    def keys(self) -> dict[str, str]:
        """Return the same settings by the keys of a site."""
        return {f"kubernetes.{name}": value for name, value in self.named.items()}


def place_options(command: Command) -> Command:
    """Add the options to a command. It receives them by name and passes them to ``Place``."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def find_run(name: str, place: Place) -> Run:
    """Return the run ``name`` by this host's record. If a target is named, use the cluster's record.

    Without a record here the cluster is asked too. Raises UserError if neither has the run.
    """
    home = place.root or root(place.site)
    run_name, kind = kinds.split_name(name)
    cluster = _cluster_site(place)
    recorded = layout.record_file(layout.run_dir(home, run_name)).is_file()
    # This host's record names the place of a run. Without a record only the cluster can know it.
    if cluster and (place.target or not recorded):
        return _find_in(*cluster, home, name)

    # A job on a checkpoint is found by its run, whose record names the target.
    run = _elsewhere(runs.read(home, run_name if kind else name), place)
    if place.target and run.target != target_entry(place.target).name:
        raise UserError(
            f"run '{run_name}' is on target {run.target}, not {place.target}",
            hint=f"jobctl status {run_name}",
        )

    if not kind:
        return run

    if target_entry(run.target).keeps_records:
        # Only the cluster has the record of a job on a checkpoint.
        return _find_in(run.target, run.record.spec.site, home, name)

    return _elsewhere(runs.read(home, name), place)


def read_copy(folder: str) -> Run:
    """Return the run whose directory `collect` copied. Raises UserError if the folder is no such copy."""
    path = Path(folder).expanduser().absolute()
    record = layout.record_file(path)
    if not record.is_file():
        raise UserError(f"{folder}: no run: it has no {record.name}", hint="jobctl collect RUN -o DIR")

    return runs.read_folder(path)


def _find_in(target: str, site: Site, home: Path, name: str) -> Run:
    from jobctl.jobs.submission import load_store

    store = load_store(target, site, home)
    run = store.find(name)
    if run is None:
        known = [other.name for other in store.find_all()]
        hint = nearest(name, known) if known else "it has none"
        raise UserError(
            f"no run '{name}' in namespace {site.kubernetes.namespace}; {hint}", hint="jobctl list"
        )

    return run


def find_pipeline(name: str, place: Place) -> Pipeline | None:
    """Return the pipeline that was submitted from this host's root under ``name``, or None."""
    return pipeline.read(place.root or root(place.site), name)


def pipeline_runs(recorded: Pipeline, place: Place) -> list[Run]:
    """Return the submitted runs of a pipeline, in their order."""
    home = place.root or root(place.site)
    return [find_run(step.run, place) for step in recorded.steps if runs.is_submitted(home, step.run)]


def find_runs(place: Place) -> list[Run]:
    """Return the runs with a record on this host, and those of the requested cluster.

    A run that cannot be read is named on stderr, and the others are returned.
    """
    from jobctl.jobs.submission import load_store

    home = root(place.site)
    cluster = _cluster_site(place)
    kept: list[Run] = []
    try:
        kept = list(load_store(*cluster, home).find_all()) if cluster else []
    # A cluster that does not answer must not hide the runs of this host.
    except UserError as error:
        # A user who names the target or the cluster wants only its runs.
        if place.target or place.named:
            raise

        warn([f"the list lacks the runs of the cluster: {error.message}"])

    if cluster and place.target:
        return kept

    recorded = runs.read_all(home, tell=lambda reason: warn([f"skipped: {reason}"]))
    if place.target:
        return [run for run in recorded if run.target == place.target]

    # A run of the cluster may also have a note in this root. It is listed once.
    known = {run.name for run in kept}

    return [*(_elsewhere(run, place) for run in recorded if run.name not in known), *kept]


def _cluster_site(place: Place) -> tuple[str, Site] | None:
    """Return the target and the site to ask.

    Return None if neither the options nor the project file name a target that keeps records.
    """
    project, layer = project_choices()
    target = place.target or project.target
    if not target_entry(target).keeps_records:
        return None

    return target, load_site(place.site or project.site, project=layer, named=place.keys)


def _elsewhere(run: Run, place: Place) -> Run:
    """Return ``run`` with another context or namespace, if the user names one."""
    if not place.named:
        return run
    return at_site(run, **place.named)
