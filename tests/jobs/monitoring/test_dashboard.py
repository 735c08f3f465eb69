"""The dashboard asks for metrics that exist, and is what Grafana imports."""

from __future__ import annotations

import json
from typing import Any

from jobctl.jobs.monitoring.dashboard import dashboard, metrics_of, panels
from jobctl.jobs.monitoring.exporter import NAMES


def test_each_query_names_metrics_that_exist() -> None:
    for entry in panels():
        named = metrics_of(entry.query)
        assert named, entry.query
        assert named <= NAMES, entry.title


def test_each_metric_has_a_panel() -> None:
    shown = {name for entry in panels() for name in metrics_of(entry.query)}
    assert shown == NAMES


def test_the_variable_asks_for_a_metric_that_exists() -> None:
    variable = dashboard()["templating"]["list"][1]
    assert metrics_of(variable["query"]["query"]) <= NAMES


def test_panels_do_not_overlap_and_fit_the_grid() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place: dict[str, Any] = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        mine = {(x, place["y"]) for x in range(place["x"], place["x"] + place["w"])}
        assert not cells & mine, panel["title"]
        cells |= mine


def test_it_is_json_with_names_of_its_own() -> None:
    made = json.loads(json.dumps(dashboard()))
    titles = [panel["title"] for panel in made["panels"]]
    assert len(set(titles)) == len(titles)
    assert len({panel["id"] for panel in made["panels"]}) == len(titles)
    assert all(panel["targets"][0]["expr"] for panel in made["panels"])


def test_a_name_that_does_not_exist_is_seen() -> None:
    assert metrics_of("rate(jobctl_run_stepp[5m]) / up") == {"jobctl_run_stepp"}
    assert not metrics_of("jobctl_run_stepp") <= NAMES
