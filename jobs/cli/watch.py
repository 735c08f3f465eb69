"""``jobctl watch``: show running jobs in the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from jobctl.jobs.cli.choices import project_choices, root
from jobctl.jobs.cli.output import say
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.extras import install_hint
from jobctl.jobs.monitoring.glance import Glance, glance, last_warnings, newest_attempt
from jobctl.jobs.monitoring.glance_text import line
from jobctl.jobs.monitoring.notify import Notifier
from jobctl.jobs.monitoring.opening import Opened, open_run


@click.command("watch")
@click.argument("runs", metavar="RUN…", nargs=-1, required=True)
@click.option(
    "--interval",
    type=click.FloatRange(0.2),
    default=2.0,
    show_default=True,
    help="Seconds between two updates.",
)
@click.option("--once", is_flag=True, help="Show the state once and exit.")
@click.option("--plain", is_flag=True, help="Print lines instead of a view, as without a terminal.")
@click.option("--notify", is_flag=True, help="Send events to the webhook or the command of the project file.")
def watch_command(runs: tuple[str, ...], interval: float, once: bool, plain: bool, notify: bool) -> None:
    """Follow runs in the terminal: progress, loss, MFU, speed, memory, warnings.

    The command ends when all runs have ended. It waits for a run that was requeued. Ctrl-C ends the command and no
    run. If the output is not a terminal, it prints one line for a run whenever something has changed.
    """
    home = root()
    opened = [open_run(word, home) for word in runs]
    notifier = Notifier(project_choices()[0].notify, lambda text: say(text, err=True)) if notify else None
    show = _lines if plain or not sys.stdout.isatty() else _view
    try:
        show(opened, interval, once, notifier)
    finally:
        # The last events are also sent after Ctrl-C.
        if notifier:
            notifier.close()


def look_at(run: Opened) -> Glance:
    """Return the present look at a run.

    A document that is being rewritten now is read again later.
    """
    records = run.records()
    history = run.history()
    return glance(history, records, time.time(), warnings=_warnings(run.path), goodput=run.goodput())


def _warnings(path: Path) -> list[str]:
    attempt = newest_attempt(path) if path.is_dir() else 0
    return last_warnings(path, attempt) if attempt else []


def _lines(opened: Sequence[Opened], interval: float, once: bool, notifier: Notifier | None) -> None:
    """Print a line for each run whenever it differs from the line before."""
    shown: dict[str, str] = {}

    def show(looks: list[Glance]) -> None:
        for look in looks:
            text = line(look)
            # A silence grows every second. That is no news.
            news = f"{look.state} {look.step} {look.attempt} {look.validation_loss}"
            if shown.get(look.run) != news:
                say(text)
                shown[look.run] = news

        # Without this, a pipe would get the lines in blocks, long after the events.
        sys.stdout.flush()

    _until_ended(opened, interval, once, show, notifier)


def _view(opened: Sequence[Opened], interval: float, once: bool, notifier: Notifier | None) -> None:
    """Show panels that follow the size of the terminal."""
    try:
        from rich.console import Console
        from rich.live import Live

        from jobctl.jobs.monitoring.terminal import View
    except ModuleNotFoundError as missing:
        raise UserError(
            f"the live view needs the package {missing.name}",
            hint=f"{install_hint('monitoring')}, or: jobctl watch --plain",
        ) from None

    console = Console()
    if once:
        _until_ended(opened, interval, once, lambda looks: console.print(View(looks)), notifier)
        return

    footer = f"updates every {interval:g} s; Ctrl-C exits"
    # The view uses the whole screen. Afterwards the earlier content returns.
    with Live(console=console, screen=True, auto_refresh=False) as live:
        last: list[Glance] = []

        def show(looks: list[Glance]) -> None:
            last[:] = looks
            live.update(View(looks, footer), refresh=True)

        _until_ended(opened, interval, once, show, notifier)

    # The view's screen is gone now. These lines stay.
    for look in last:
        say(line(look))


def _until_ended(
    opened: Sequence[Opened],
    interval: float,
    once: bool,
    show: Callable[[list[Glance]], None],
    notifier: Notifier | None,
) -> None:
    """Look again and again until all runs have ended."""
    while True:
        looks = [look_at(run) for run in opened]
        show(looks)
        if notifier:
            for look in looks:
                notifier.see(look)

        if once or all(look.has_ended for look in looks):
            return

        time.sleep(interval)
