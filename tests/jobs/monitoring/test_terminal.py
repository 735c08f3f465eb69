"""The panels of the live view, at every size of a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from jobctl.jobs.monitoring.glance import Glance
from jobctl.jobs.monitoring.terminal import View, plot
from tests.jobs.monitoring.runs import start_line, training_lines, write_attempt, write_log
from tests.jobs.monitoring.test_glance import going, look


def drawn(looks: list[Glance], width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(View(looks, "footer"))

    return capture.get().splitlines()


@pytest.fixture
def seen(tmp_path: Path) -> Glance:
    write_attempt(going(tmp_path), 1)
    return look(tmp_path, warnings=["warning: something [bold]odd"])


@pytest.mark.parametrize(("width", "height"), [(200, 60), (100, 40), (80, 24), (60, 20), (40, 12)])
def test_no_line_is_wider_than_the_terminal(seen: Glance, width: int, height: int) -> None:
    for count in (1, 3):
        lines = drawn([seen] * count, width, height)
        assert max(len(line) for line in lines) <= width
        text = "\n".join(lines)
        assert text.count("3.7960") == count, "the loss of each run"
        assert lines[-1].strip() == "footer"


def test_a_plot_is_drawn_where_there_is_room(seen: Glance) -> None:
    assert any("⠒" in line or "⠤" in line for line in drawn([seen], 100, 40))
    assert not any("⠒" in line or "⠤" in line for line in drawn([seen], 100, 14))


def test_two_runs_stand_side_by_side_where_they_fit(seen: Glance) -> None:
    assert sum("running" in line for line in drawn([seen, seen], 120, 40)) == 1
    assert sum("running" in line for line in drawn([seen, seen], 90, 60)) == 2


def test_words_of_a_log_are_no_markup(seen: Glance, tmp_path: Path) -> None:
    assert any("[bold]odd" in line for line in drawn([seen], 100, 40))
    run = tmp_path / "x[red]y"
    write_log(run, [start_line(), *training_lines([1])])
    assert any("x[red]y" in line for line in drawn([look(run)], 100, 40))


def test_one_point_is_no_curve() -> None:
    assert plot([1.0], [2.0], 40, 10, "loss") == "no loss to draw yet"
