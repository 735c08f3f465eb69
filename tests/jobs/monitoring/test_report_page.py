"""The page of ``jobctl report`` in a real browser, and the text that it is made of."""

from __future__ import annotations

import json
import re
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobctl.jobs.monitoring.analysis import analyse
from jobctl.jobs.monitoring.opening import open_run
from jobctl.jobs.monitoring.report_data import Subject
from jobctl.jobs.monitoring.report_page import inline_json, page, text_of, title_of
from tests.jobs.monitoring.chromium import AXE, Tab, browser, need_browser
from tests.jobs.monitoring.runs import (
    start_line,
    step_line,
    training_lines,
    write_attempt,
    write_log,
    write_run,
)

LARGEST_BYTES = 1_500_000


def subject(run: Path, goodput: tuple[tuple[str, float], ...] = ()) -> Subject:
    opened = open_run(str(run), run)
    history = opened.log.read()
    attempts = opened.records().attempts
    return Subject(history, analyse(history, attempts), attempts, goodput)


def resumed_run(run: Path, *, seed: int = 0) -> Path:
    """A run of two attempts with gradients by layer and validation losses."""

    def extra(step: int) -> list[dict[str, Any]]:
        layers = {"embedding": 0.5 + seed, "block 0": 1.0, "block 1": 2.0 / step, "head": "nan"}
        scored = {"kind": "eval", "iter": step, "set": "v", "val_loss": 4.0 + 1 / step}
        return [{"kind": "gradients", "iter": step, "layers": layers}, scored]

    first = [start_line(run.name, seed=seed), *training_lines(range(1, 121)), *extra(50), *extra(100)]
    write_log(run, sorted(first, key=lambda line: line.get("iter", 0)))
    second = [*training_lines(range(101, 201)), *extra(150), *extra(200)]
    summary = {"kind": "summary", "iter": 200, "status": "finished"}
    lines = sorted(second, key=lambda line: line["iter"])
    write_log(
        run, [{"kind": "resumed", "iter": 100}, start_line(run.name, seed=seed), *lines, summary], minutes=60
    )
    write_attempt(run, 1, end=50.0, reason="preempted", exit_code=200)
    write_attempt(run, 2, begin=59.0, end=70.0)
    return run


pytestmark = pytest.mark.xdist_group("report page")  # each worker would start a browser


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    need_browser()
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    runs = [subject(resumed_run(folder / "first"), (("steps", 0.7), ("queue", 0.3)))]
    runs += [
        subject(write_run(folder / name, seed=n, noise=0.02)) for n, name in enumerate(("second", "third"))
    ]
    path = folder / "report.html"
    path.write_text(page(runs, "today"))
    return path


def test_the_page_asks_no_network_and_throws_nothing(tab: Tab, report: Path) -> None:
    tab.open(report)
    assert tab.requests == [report.resolve().as_uri()]
    assert tab.problems == []
    assert tab.run("document.querySelectorAll('.figure:not([hidden]) canvas').length") == 8


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1400, 390])
def test_axe_finds_no_violation(tab: Tab, report: Path, dark: bool, width: int) -> None:
    tab.open(report, dark=dark, width=width)
    tab.run("document.querySelectorAll('details').forEach((part) => { part.open = true; }); 0")
    tab.run("new Promise((done) => setTimeout(done, 0))")
    tab.run(AXE.read_text() + "; 0")
    found = tab.run("axe.run().then((told) => told.violations.map((v) => [v.id, v.nodes[0].html]))")
    assert found == []
    assert tab.run("document.documentElement.dataset.theme") == ("dark" if dark else "light")


def test_a_phone_needs_no_sideways_scrolling(tab: Tab, report: Path) -> None:
    tab.open(report, width=390, height=800)
    assert tab.run("document.documentElement.scrollWidth - innerWidth") <= 0
    widths = tab.run(
        "[...document.querySelectorAll('.figure canvas')].map((c) => c.getBoundingClientRect().right)"
    )
    assert max(widths) <= 390


def test_the_keyboard_moves_zooms_and_resets(tab: Tab, report: Path) -> None:
    tab.open(report)
    tab.run("document.querySelector('.plot').focus(); 0")
    readout = "document.querySelector('.readout').textContent"
    assert tab.run(readout).startswith("End: first")
    tab.key("Home")
    assert tab.run(readout).startswith("1 steps: first 8.6569")
    tab.key("ArrowRight")
    tab.key("ArrowRight")
    at = tab.run("window.report.state.charts[0].place")
    assert 2 <= at <= 6

    scales = "window.report.state.charts.filter((c) => c.plot).map((c) => c.plot.scales.x.max)"
    tab.key("+")
    assert max(tab.run(scales)) < 150, "all figures show the same part"
    tab.key("Escape")
    assert min(tab.run(scales)) >= 190


def test_a_hidden_run_and_another_axis_change_the_figures(tab: Tab, report: Path) -> None:
    tab.open(report)
    tab.run("document.querySelectorAll('#runs input')[1].click(); 0")
    assert "second" not in tab.run("document.querySelector('.readout').textContent")
    for axis, last in (("tokens", 204_800), ("hours", 1.0028)):
        choose = f"(s => {{ s.value = '{axis}'; s.dispatchEvent(new Event('change')); }})"
        tab.run(f"{choose}(document.getElementById('axis')); 0")
        reached = tab.run("window.report.state.charts[0].content.grid.at(-1)")
        assert reached == pytest.approx(last, rel=1e-3)


def test_each_figure_has_its_numbers_as_a_table(tab: Tab, report: Path) -> None:
    tab.open(report)
    tab.run("document.querySelectorAll('.figure details').forEach((part) => { part.open = true; }); 0")
    tab.run("new Promise((done) => setTimeout(done, 0))")
    rows = tab.run(
        "[...document.querySelectorAll('.figure:not([hidden])')].map((f) => f.querySelectorAll('tr').length)"
    )
    assert rows[0] == 17
    assert min(rows) >= 5
    head = "[...document.querySelector('.figure thead').querySelectorAll('th')].map((h) => h.textContent)"
    assert tab.run(head)[:3] == ["steps", "first", "first, validation"]


def test_the_parts_of_a_step_are_stacked_and_told_alone(tab: Tab, report: Path) -> None:
    tab.open(report)
    columns = tab.run(
        "window.report.state.charts.at(-1).content.columns.map((c) => [c.label, c.values.at(-1), c.each.at(-1)])"
    )
    assert columns == [["waiting for data", 99.2, 0.2], ["optimiser", 99.0, 4.0], ["computation", 95.0, 95.0]]


def test_a_figure_is_saved_as_svg_and_as_png(tab: Tab, report: Path) -> None:
    tab.open(report)
    for number in range(8):
        drawing = tab.run(f"window.report.svgOf(window.report.state.charts[{number}])")
        tree = ElementTree.fromstring(drawing)
        paths = [node for node in tree.iter() if node.tag.endswith("path")]
        assert len(paths) > 5
        assert "NaN" not in drawing

    address = tab.run("window.report.pictureOf(window.report.state.charts[0]).toDataURL('image/png')")
    assert address.startswith("data:image/png;base64,")
    assert len(address) > 5000


def test_attempts_and_causes_are_told(tab: Tab, report: Path) -> None:
    tab.open(report)
    table = tab.run("document.getElementById('attempts').textContent")
    assert "0 to 100" in table
    assert "100 to 200" in table
    assert "preempted" in table
    assert "70.0%" in tab.run("document.getElementById('goodput').textContent")


def test_a_slide_shows_the_figures_alone(tab: Tab, report: Path) -> None:
    tab.open(report, width=1920, height=1080, hash="#slide=")
    assert tab.run("document.documentElement.scrollHeight") <= 1080
    tab.open(report, width=1920, height=1080, hash="#slide=loss&theme=dark")
    assert tab.run("document.querySelectorAll('.figure').length") == 1
    assert tab.run("document.querySelector('canvas').getBoundingClientRect().width") > 1600


def test_names_and_settings_cannot_become_markup(tab: Tab, tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=window.hit=1>"
    write_log(tmp_path / "r", [start_line("r", model=evil, sharding=evil), *training_lines(range(1, 11))])
    told = subject(tmp_path / "r")
    told.history.name = evil
    path = tmp_path / "report.html"
    path.write_text(page([told], "today"))
    tab.open(path)
    assert tab.run("window.hit") is None
    assert tab.run("document.querySelectorAll('img').length") == 0
    assert evil in tab.run("document.body.textContent")


def test_runs_with_little_or_nothing_still_make_a_page(tab: Tab, tmp_path: Path) -> None:
    (tmp_path / "empty" / "metrics").mkdir(parents=True)
    write_log(tmp_path / "nan", [start_line(), step_line(1, "nan"), step_line(2, "inf", grad_norm="nan")])
    write_log(tmp_path / "one", [start_line(), *training_lines([1])])
    path = tmp_path / "report.html"
    path.write_text(page([subject(tmp_path / name) for name in ("empty", "nan", "one")], "today"))
    tab.open(path)
    assert tab.problems == []
    assert tab.run("document.documentElement.dataset.drawn") is not None


def test_ten_long_runs_are_small_and_quick(tab: Tab, tmp_path: Path) -> None:
    """Ten runs of 100,000 steps: at most 1.5 MB, made in 3 s and drawn in 0.5 s of an idle machine."""
    lines = [start_line(max_iters=100_000)]
    for line in training_lines(range(1, 100_001), timing=lambda step: {"mfu": 0.6 + step % 97 / 1e4}):
        lines.append(
            {**line, "grad_norm": 1 + line["iter"] % 89 / 50} if line["kind"] == "iteration" else line
        )

    text = write_log(tmp_path / "run-0", lines).read_bytes()
    for number in range(1, 10):
        write_log(tmp_path / f"run-{number}", []).write_bytes(text)

    begin = time.process_time()
    html = page([subject(tmp_path / f"run-{number}") for number in range(10)], "today")
    spent = time.process_time() - begin
    assert len(html.encode()) <= LARGEST_BYTES
    assert spent <= 6, "seconds of CPU; 3 on an idle machine"

    path = tmp_path / "report.html"
    path.write_text(html)
    tab.open(path)
    drawn = int(tab.run("document.documentElement.dataset.drawn"))
    assert drawn <= 2500, "milliseconds after the opening; 500 on an idle machine"


def test_json_in_a_page_cannot_end_its_element() -> None:
    text = inline_json({"a": "</script><!-- \u2028"})
    assert "<" not in text
    assert json.loads(text) == {"a": "</script><!-- \u2028"}


def test_titles_name_few_runs() -> None:
    assert title_of(["a"]) == "Report of a"
    assert title_of(["a", "b"]) == "Report of a, b"
    assert title_of(["a"] * 4) == "Report of 4 runs"


def test_uplot_is_the_release_that_its_licence_covers() -> None:
    assert "MIT License" in text_of("uplot/LICENSE")
    assert re.search(r"uPlot \(v1\.6\.\d+\)", text_of("uplot/uPlot.iife.min.js")[:200])
