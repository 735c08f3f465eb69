"""The live view of ``jobctl watch``: panels side by side, with plots, by rich and plotext."""

from __future__ import annotations

from collections.abc import Sequence

from rich.columns import Columns
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from jobctl.jobs.core.text import visible
from jobctl.jobs.monitoring.glance import Glance
from jobctl.jobs.monitoring.glance_text import after_the_fall, curve, progress, rows, step_label

NARROWEST = 54
"""The least columns of a panel. If two panels do not fit, runs are shown below each other."""
STYLES = {
    "running": "green",
    "finished": "blue",
    "stopped": "yellow",
    "waiting": "yellow",
    "silent": "bold red",
    "failed": "bold red",
    "cancelled": "red",
}
_TICKS = 4
_PLOT_ROWS = 12
_LEAST_ROWS = 6


class View:
    """All runs of a watch. They are drawn anew for the present width of the terminal."""

    def __init__(self, looks: Sequence[Glance], footer: str = "") -> None:
        self.looks = looks
        self.footer = footer

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        across = max(1, min(len(self.looks), options.max_width // NARROWEST))
        width = options.max_width // across
        down = -(-len(self.looks) // across)
        height = (options.height or console.height) // down
        panels = [panel(look, width, height) for look in self.looks]
        yield Columns(panels, padding=0, width=width) if across > 1 else Group(*panels)
        if self.footer:
            yield Text(self.footer, style="dim")


def panel(look: Glance, width: int, height: int) -> Panel:
    """Return one run in a frame of ``width`` columns and about ``height`` rows."""
    # The frame and its padding take two columns on each side.
    inside = width - 4
    # The words beside the bar need about 44 columns.
    parts: list[RenderableType] = [Text(progress(look, max(8, min(30, inside - 44))), overflow="ellipsis")]
    if look.detail:
        parts.append(Text(visible(look.detail), style=STYLES.get(look.state, "")))

    table = Table.grid(padding=(0, 1))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows(look):
        table.add_row(name, value)

    warnings = [
        Text(f"! {warning}", style="yellow", overflow="ellipsis", no_wrap=True) for warning in look.warnings
    ]
    plot_rows = min(_PLOT_ROWS, height - len(rows(look)) - len(warnings) - 6)
    if plot_rows >= _LEAST_ROWS and len(look.steps) > 1:
        parts.append(Text.from_ansi(loss_plot(look, inside, plot_rows)))

    parts += [table, *warnings]
    title = f"[bold]{_plain(look.run)}[/] {_plain(look.model)} [{STYLES.get(look.state, 'default')}]{look.state}[/]"
    return Panel(Group(*parts), title=title, width=width)


def _plain(text: str) -> str:
    """Return foreign text so that it is not markup and cannot control the terminal."""
    return visible(text).replace("[", r"\[")


def loss_plot(look: Glance, width: int, height: int) -> str:
    """Return the loss over the steps as lines of text."""
    xs, ys = after_the_fall(*curve(look.steps, look.losses))
    return plot(xs, ys, width, height, "loss")


def plot(xs: Sequence[float], ys: Sequence[float], width: int, height: int, title: str) -> str:
    """Return a curve as lines of text, or a word if no point can be drawn."""
    import plotext

    if len(xs) < 2:
        return f"no {title} to draw yet"

    # plotext keeps one figure for the whole process.
    plotext.clear_figure()
    # This theme sets no colours, so those of the terminal stay.
    plotext.theme("clear")
    plotext.plotsize(width, height)
    # A braille character has eight points, so few rows show a whole curve.
    plotext.plot(list(xs), list(ys), marker="braille")
    ticks = [xs[0] + (xs[-1] - xs[0]) * i / (_TICKS - 1) for i in range(_TICKS)]
    plotext.xticks(ticks, [step_label(tick) for tick in ticks])
    plotext.title(title)
    text: str = plotext.build()
    return text
