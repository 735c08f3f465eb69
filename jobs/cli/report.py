"""``jobctl report``: one page about one or more runs."""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path

import click

from jobctl.jobs.cli.choices import root
from jobctl.jobs.cli.login import login_in_force, output_of
from jobctl.jobs.cli.output import STANDARD_OUTPUT, say, warn
from jobctl.jobs.core.amounts import short_bytes
from jobctl.jobs.core.durable import keeps_its_place, write_named
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.goodput import CAUSES
from jobctl.jobs.monitoring.analysis import analyse
from jobctl.jobs.monitoring.browser import find_browser, take_picture
from jobctl.jobs.monitoring.opening import open_run
from jobctl.jobs.monitoring.report_data import Subject
from jobctl.jobs.monitoring.report_page import page

FIGURES = ("loss", "mfu", "tokens_per_sec", "memory", "grad_norm", "lr", "layers", "split")


@click.command("report")
@click.argument("runs", metavar="RUN…", nargs=-1, required=True)
@click.option(
    "-o", "output", type=click.Path(path_type=Path), help="The page; - prints it.  [default: RUN.html]"
)
@click.option(
    "--png", type=click.Path(path_type=Path), help="Also write a picture of the figures, 1920 x 1080."
)
@click.option("--figure", type=click.Choice(FIGURES), help="Show only this figure in the picture.")
@click.option("--dark", is_flag=True, help="Use a dark background for the picture.")
def report_command(
    runs: tuple[str, ...], output: Path | None, png: Path | None, figure: str | None, dark: bool
) -> None:
    """Write one page with all figures of runs. It opens in any browser, without a network.

    With --png and without -o, write only the picture. This needs a Chromium.
    """
    if (figure or dark) and not png:
        raise UserError("--figure and --dark need --png, the picture", hint="--png FILE.png")

    if png:
        # This is checked before the runs are read: without a browser nothing is written.
        find_browser()

    text = _page(runs)
    if str(output) == STANDARD_OUTPUT:
        click.echo(text, nl=False)
    elif output or not png:
        target = output or Path(f"{Path(runs[0]).name if len(runs) == 1 else 'report'}.html")
        _write(target, text)

    if png:
        with tempfile.TemporaryDirectory(prefix="jobctl-report-") as folder:
            source = Path(folder) / "report.html"
            source.write_text(text, encoding="utf-8")
            take_picture(source, png, figure=figure or "", dark=dark)

        say(f"{png}", err=keeps_its_place(png))


def _page(runs: tuple[str, ...]) -> str:
    """Return the page. It is made on the machine that has the runs."""
    choices = {"runs": runs}
    if login := login_in_force(choices):
        return output_of(login, "report", choices).decode("utf-8", "replace")

    home = root()
    return page([_subject(word, home) for word in runs], _now())


def _write(target: Path, text: str) -> None:
    """Write the page. Raises UserError if that cannot be done."""
    data = text.encode()
    try:
        write_named(target, data)
    except OSError as error:
        raise UserError(
            f"{target}: cannot be written: {error.strerror}", hint="-o FILE.html", code=1
        ) from None

    # Standard output is not used, because -o may name it, as /dev/stdout does.
    say(f"{target} ({short_bytes(len(data))})", err=keeps_its_place(target))


def _subject(word: str, home: Path) -> Subject:
    opened = open_run(word, home)
    history = opened.history()
    records = opened.records()
    warn([*history.notes, *records.notes])
    goodput = opened.goodput()
    shares = tuple((CAUSES[cause], share) for cause, share in goodput.shares().items()) if goodput else ()
    return Subject(history, analyse(history, records.attempts, goodput=goodput), records.attempts, shares)


def _now() -> str:
    return datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
