"""The page of ``jobctl report``: one complete file that needs no network."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

import jobctl
from jobctl.jobs.monitoring.report_data import Subject, page_data

PAGE = Path(__file__).resolve().parent / "page"
SCRIPTS = ("figures.js", "grid.js", "charts.js", "saving.js", "tables.js", "page.js")
"""The scripts of the page. Each needs only those before it."""
_NAMED = 3
"""The most runs that the title names. For more runs it gives only their number."""


def page(subjects: Sequence[Subject], made: str) -> str:
    """Return the HTML of a report made at the time ``made``."""
    import jinja2  # here, because no other command of this room needs it

    data = page_data(subjects)
    # Any text may stand in a log's names, so they are escaped.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(text_of("report.html.j2"))
    verbatim = {
        "css": text_of("report.css"),
        "uplot_css": text_of("uplot/uPlot.min.css"),
        "uplot_js": text_of("uplot/uPlot.iife.min.js"),
        "uplot_licence": text_of("uplot/LICENSE"),
        "data": inline_json(data),
    }

    return template.render(
        title=title_of([subject.history.name for subject in subjects]),
        made=made,
        version=jobctl.__version__,
        runs=data["runs"],
        validation_note=data["validation_note"],
        scripts=[_safe(text_of(name)) for name in SCRIPTS],
        **{name: _safe(text) for name, text in verbatim.items()},
    )


def _safe(text: str) -> Any:
    """Return text of jobctl that the template prints unchanged."""
    import markupsafe

    return markupsafe.Markup(text)


@functools.cache
def text_of(name: str) -> str:
    """Return a file of the page."""
    return (PAGE / name).read_text(encoding="utf-8")


def inline_json(data: Any) -> str:
    """Return JSON for a script element. No text in it can end the element."""
    text = msgspec.json.encode(data).decode()
    # A script may end at `</`. Older JavaScript reads U+2028 and U+2029 as line ends.
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def title_of(names: Sequence[str]) -> str:
    """Return the title of a report."""
    if len(names) == 1:
        return f"Report of {names[0]}"

    return f"Report of {', '.join(names)}" if len(names) <= _NAMED else f"Report of {len(names)} runs"
