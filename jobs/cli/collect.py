"""``jobctl collect``: copy a run directory to this host."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobctl import __version__
from jobctl.jobs.cli.finding import Place, find_run, place_options
from jobctl.jobs.cli.login import Login, broken_in_words, login_in_force, texts_of
from jobctl.jobs.cli.output import emit, said_when_slow, say, warn
from jobctl.jobs.core.errors import UserError

if TYPE_CHECKING:
    from jobctl.jobs.login.files import Came


@click.command("collect")
@click.argument("run")
@place_options
@click.option(
    "--output",
    "-o",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder for the copy.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def collect_command(run: str, output: Path, as_json: bool, **place: Any) -> None:
    """Copy the directory of a run to this machine. Call it again to continue after a break."""
    from jobctl.jobs.submission import store_of

    login = login_in_force(place)
    if login is not None:
        code, counts = _copy_from_login(login, run, output, place)
        if code:  # the login node has printed the reason
            sys.exit(code)
    else:
        chosen = find_run(run, Place(**place))
        counts = dict(store_of(chosen).collect(chosen, output))

    words = ", ".join(f"{count} {noun}" for noun, count in counts.items() if count or noun == "files")
    emit({"run": run, "directory": str(output), **counts}, as_json, f"{run}: {words}, in {output}")
    # Files that the rules skip, such as links, are missing in each copy. A refused file belongs to the run.
    if counts.get("refused"):
        sys.exit(1)


def _copy_from_login(
    login: Login, run: str, into: Path, options: Mapping[str, Any]
) -> tuple[int, dict[str, int]]:
    """Copy the directory of a run from the login node to ``into``. Return an exit code and counts of files.

    Raises UserError if the connection breaks.
    """
    from jobctl.jobs.login.asking import ask_for_files
    from jobctl.jobs.login.files import known_files
    from jobctl.jobs.login.request import Copy, Request

    # This comes before the request: the free space on the disk of this folder is measured.
    into.mkdir(parents=True, exist_ok=True)
    wanted = Copy(run=run, target=options.get("target"), site=options.get("site"), here=known_files(into))
    request = Request(version=__version__, copy=wanted, texts=texts_of(options, login.project))

    slow = f"copying from {login.host}; if the connection breaks, run the same command again to continue"
    with broken_in_words("collect", run), said_when_slow(slow):
        came = ask_for_files(login.host, login.section.jobctl, request, into, _tell)

    # The other side has refused, and its message is already printed.
    if isinstance(came, int):
        return came, {}

    _tell_left_out(came)
    sums = came.sums
    if not came.is_whole:
        raise UserError(
            f"the connection to {login.host} broke after {came.copied} of {sums.coming} files",
            hint=f"the copied files are kept; jobctl collect {run} -o {into} continues",
            code=1,
        )

    counts = {
        "files": sums.files,
        "copied": came.copied,
        "skipped": sums.skipped,
        "refused": len(came.refused),
    }
    return 0, counts


def _tell(text: str) -> None:
    say(f"jobctl: {text}", err=True)


def _tell_left_out(came: Came) -> None:
    from jobctl.jobs.login.files import NAMED

    sums = came.sums
    warn(f"skipped: {reason}" for reason in sums.named)
    if sums.skipped > len(sums.named):
        warn([f"skipped: {sums.skipped - len(sums.named)} more"])

    for reason in came.refused[:NAMED]:
        _tell(f"refused: {reason}")

    if len(came.refused) > NAMED:
        _tell(f"refused: {len(came.refused) - NAMED} more")
