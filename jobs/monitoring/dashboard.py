"""The Grafana dashboard of the exporter's metrics, as JSON, and the metrics that its queries name. Pure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from jobctl.jobs.catalog.loader import load_file

PANELS_FILE = Path(__file__).with_name("panels.yaml")
_METRIC = re.compile(r"\bjobctl_[a-z_]+")


class PanelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One panel: its query to Prometheus, and the form of its numbers."""

    title: str
    query: str
    legend: str = "{{run}}"
    unit: str = "short"
    """A unit of Grafana: ``percentunit``, ``s``, ``bytes``."""
    kind: str = "timeseries"
    width: int = 8
    logarithmic: bool = False


class _Panels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    panels: tuple[PanelEntry, ...]


def panels() -> tuple[PanelEntry, ...]:
    """Return the panels of the dashboard, in their order."""
    return load_file(PANELS_FILE, _Panels).panels


def metrics_of(query: str) -> set[str]:
    """Return the metrics of jobctl that a query names."""
    return set(_METRIC.findall(query))


def dashboard() -> dict[str, Any]:
    """Return the dashboard for Grafana 10 or newer. It asks for the data source at its import."""
    placed = []
    across = 0
    down = 0
    for number, entry in enumerate(panels(), start=1):
        if across + entry.width > 24:  # the columns of Grafana's grid
            across = 0
            down += 8

        placed.append(_panel(number, entry, across, down))
        across += entry.width

    # Each Grafana has a different id for its data source, so the dashboard asks for it.
    source = {"type": "prometheus", "uid": "${source}"}
    run = {
        "name": "run",
        "type": "query",
        "label": "Run",
        "datasource": source,
        "query": {"query": "label_values(jobctl_run_step, run)", "refId": "runs"},
        "multi": True,
        "includeAll": True,
        "refresh": 2,
        "current": {"text": "All", "value": "$__all"},
    }

    return {
        "title": "jobctl runs",
        "uid": "jobctl-runs",  # fixed, so that a newer dashboard replaces the older one
        "schemaVersion": 39,
        "tags": ["jobctl"],
        "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {
            "list": [
                {"name": "source", "type": "datasource", "query": "prometheus", "label": "Data source"},
                run,
            ]
        },
        "panels": placed,
    }


def _panel(number: int, entry: PanelEntry, across: int, down: int) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    defaults: dict[str, Any] = {"unit": entry.unit}
    if entry.logarithmic:
        defaults["custom"] = {"scaleDistribution": {"type": "log", "log": 10}}

    return {
        "id": number,
        "title": entry.title,
        "type": entry.kind,
        "datasource": source,
        "gridPos": {"h": 8, "w": entry.width, "x": across, "y": down},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [{"refId": "A", "datasource": source, "expr": entry.query, "legendFormat": entry.legend}],
    }
