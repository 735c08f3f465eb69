"""``jobctl site``: write a site file from the answers of a cluster, and check a file against the cluster."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from jobctl.jobs.catalog.schema import SITE_SECTIONS, LoginSection, Site
from jobctl.jobs.catalog.schema.describing import describe
from jobctl.jobs.catalog.schema.keys import flat
from jobctl.jobs.cli.choices import is_being_written, path_of_file, project_choices
from jobctl.jobs.cli.finding import Place, place_options
from jobctl.jobs.cli.output import emit, table, warn
from jobctl.jobs.cli.root_check import fault_of
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.render import quote_yaml
from jobctl.jobs.spec.resolution import load_site
from jobctl.jobs.targets.protocol import Offer, Survey, Surveys
from jobctl.jobs.targets.registry import load_target, target_entry

OK = "ok"


@click.group("site")
def site_command() -> None:
    """Write and check a site file: the settings of one cluster."""


@site_command.command("new")
@place_options
@click.option("--login", "login_host", metavar="HOST", help="Login node to ask over ssh; the file names it.")
@click.option("--login-jobctl", metavar="PATH", help="jobctl on the login node: a command or a path.")
def new(login_host: str | None, login_jobctl: str | None, **place: Any) -> None:
    """Print a site file for --target, with the facts of the cluster and a comment on every key.

    jobctl site new --target slurm > mycluster.yaml

    From another machine, over ssh: jobctl site new --target slurm --login me@login.lab.org > mycluster.yaml
    """
    if login_jobctl and not login_host:
        raise UserError("--login-jobctl is about a login node", hint="--login HOST")

    chosen = Place(**place)
    name, site, answer = _ask(chosen, must_answer=False)
    # The notes go to standard error, because standard output becomes the file.
    warn(answer.notes)
    # Values on the command line are no guesses, so they override the cluster's answer.
    given = {f"kubernetes.{key}": value for key, value in chosen.named.items()}
    values = {**_chosen(answer), **given, **_login(login_host, login_jobctl, site)}
    click.echo(site_text(name, values, {offer.key: offer.values for offer in answer.offers}))


def _login(host: str | None, program: str | None, site: Site) -> dict[str, str]:
    """Return the keys of the login node that the user names, or else of the site that applies."""
    section = LoginSection(host=host, jobctl=program or "") if host else site.login
    keys = {"login.host": section.host, "login.jobctl": section.jobctl}
    return {key: value for key, value in keys.items() if section.host and value}


@site_command.command("check")
@click.argument("file", required=False, metavar="[FILE]")
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(file: str | None, as_json: bool, **place: Any) -> None:
    """Compare a site FILE with its cluster. Exit with 1 if the cluster lacks something that the file names.

    The root must be a folder that you can write. Without FILE, the site is that of --site or of jobctl.yaml.
    """
    chosen = Place(**_with_site(place, file))
    name, site, answer = _ask(chosen, must_answer=True)
    warn(answer.notes)
    rows = [*_root_row(name, site), *refused_rows(name, flat(site)), *checked(flat(site), answer)]
    facts = [{"key": key, "value": value, "finding": finding} for key, value, finding in rows]
    emit(facts, as_json, table(("KEY", "VALUE", ""), rows))
    if any(finding != OK for _, _, finding in rows):
        sys.exit(1)


def _with_site(place: Mapping[str, Any], file: str | None) -> dict[str, Any]:
    """Return the place with the file as its site. Raises UserError if --site names another one."""
    if file is None:
        return dict(place)

    if place["site"] not in (None, file):
        raise UserError(f"{file} and --site {place['site']} name two sites", hint="name one of them")

    return {**place, "site": path_of_file(file)}


def _ask(place: Place, *, must_answer: bool) -> tuple[str, Site, Survey]:
    """Return the target, the site, and the answers of the cluster.

    Raises UserError for a target without a cluster.
    """
    project, layer = project_choices()
    name = place.target or project.target
    target = load_target(name)
    if not isinstance(target, Surveys):
        raise UserError(f"target {name} has no cluster", hint="--target slurm, or --target k8s")

    chosen = place.site or project.site
    # With `jobctl site new > FILE`, if the project already names FILE, the shell has emptied it.
    if not must_answer and is_being_written(chosen):
        chosen = None

    site = load_site(chosen, project=layer, named=place.keys)
    try:
        return name, site, target.survey(site)
    except UserError as error:
        if must_answer:
            raise

        by = "; to ask a login node of it over ssh: --login HOST" if target_entry(name).has_login else ""
        return (
            name,
            site,
            Survey(
                notes=(f"the cluster does not answer, so fill in the names yourself: {error.message}{by}",)
            ),
        )


def _chosen(answer: Survey) -> dict[str, str]:
    return {offer.key: offer.chosen for offer in answer.offers if offer.chosen}


def site_text(target: str, values: Mapping[str, str], offered: Mapping[str, tuple[str, ...]]) -> str:
    """Return a site file with each key that the target reads, and its meaning.

    A key without a value is a comment.
    """
    entry = target_entry(target)
    lines = [
        f"# A site for jobctl's target {target}: pass it as --site ./FILE, or name it in jobctl.yaml.",
        f"summary: a cluster for the target {target}",
        "settings:",
    ]
    for section in ("", "container", entry.section, *(["login"] if entry.has_login else [])):
        if section:
            lines.append(f"  {section}:")

        lines += _key_lines(section, values, offered, entry.refuses)

    return "\n".join(lines)


def _key_lines(
    section: str,
    values: Mapping[str, str],
    offered: Mapping[str, tuple[str, ...]],
    refused: Container[str],
) -> Iterator[str]:
    fields = SITE_SECTIONS[section].__struct_fields__ if section else Site.__struct_fields__
    indent = "    " if section else "  "
    for field in fields:
        if not section and field in SITE_SECTIONS:
            continue

        key = f"{section}.{field}" if section else field
        if key in refused:
            continue

        described = describe(key)
        here = f"; here: {', '.join(offered[key])}" if offered.get(key) else ""
        value = quote_yaml(values.get(key, described.default))
        mark = "" if key in values else "# "
        yield f"{indent}{mark}{field}: {value}  # {described.description}{here}"


def checked(settings: Mapping[str, Any], answer: Survey) -> list[tuple[str, str, str]]:
    """Return each setting that the cluster can check: its key, its value, and ``ok`` or the fault."""
    return [_row(offer, str(settings[offer.key])) for offer in answer.offers if settings.get(offer.key)]


def refused_rows(target: str, settings: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the settings with which no job of the target can be submitted, each with its remedy."""
    refused = target_entry(target).refuses
    defaults = flat(Site())
    return [
        (
            key,
            value if isinstance(value, str) else quote_yaml(value),
            f"{target} has no counterpart: {refused[key]}",
        )
        for key, value in settings.items()
        if key in refused and value != defaults[key]
    ]


def _row(offer: Offer, value: str) -> tuple[str, str, str]:
    if value in offer.values:
        return offer.key, value, OK

    known = ", ".join(offer.values) or "none that is visible to you"
    return offer.key, value, f"the cluster has: {known}"


def _root_row(target: str, site: Site) -> list[tuple[str, str, str]]:
    """Return a row that says whether this host can write the root, if jobs see it under the same path."""
    if not target_entry(target).shares_files or not site.root:
        return []

    path = Path(site.root).expanduser().absolute()
    return [("root", str(path), fault_of(path) or OK)]
