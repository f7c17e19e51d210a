"""Dashboards as Grafana imports them (its JSON since version 9)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA_VERSION = 39
"""Of Grafana 10; newer ones take it and move it on."""

_COLUMNS = 24
_WIDTH = 8
_HEIGHT = 8
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Panel:
    """Lines over time. ``queries`` are pairs of PromQL and the line's name, with ``{{label}}``;
    ``unit`` is Grafana's word: ``s``, ``reqps``, ``percentunit``, ``short``."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    text: str


@dataclass(frozen=True)
class Variable:
    """A choice above the panels: the values that ``label`` has in a series."""

    name: str
    series: str
    label: str


@dataclass(frozen=True)
class Dashboard:
    """A page of panels in rows, three beside each other."""

    uid: str
    title: str
    variables: tuple[Variable, ...]
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]

    @property
    def expressions(self) -> tuple[str, ...]:
        """All of its queries."""
        panels = [panel for _, panels in self.rows for panel in panels]
        return tuple(expression for panel in panels for expression, _ in panel.queries)


def to_json(dashboard: Dashboard) -> dict[str, Any]:
    """What ``Dashboards → Import`` takes, and the sidecar of Grafana's chart in a ConfigMap."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["eksml"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_DATASOURCE, *map(_choice, dashboard.variables)]},
        "panels": _numbered(_placed(dashboard.rows)),
    }


_DATASOURCE = {
    "name": "datasource",
    "label": "Prometheus",
    "type": "datasource",
    "query": "prometheus",
    "current": {},
    "hide": 0,
}


def _choice(variable: Variable) -> dict[str, Any]:
    asked = f"label_values({variable.series}, {variable.label})"
    return {
        "name": variable.name,
        "type": "query",
        "datasource": _SOURCE,
        "definition": asked,
        "query": {"query": asked, "refId": variable.name},
        # Also what has no such label: a Ray outside Kubernetes has no ray_io_cluster
        "allValue": ".*",
        "includeAll": True,
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        "refresh": 2,
        "sort": 1,
    }


def _placed(rows: Sequence[tuple[str, Sequence[Panel]]]) -> Iterable[dict[str, Any]]:
    y = 0
    for title, panels in rows:
        yield {
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": y, "w": _COLUMNS, "h": 1},
        }
        y += 1
        for start in range(0, len(panels), _COLUMNS // _WIDTH):
            for column, panel in enumerate(panels[start : start + _COLUMNS // _WIDTH]):
                place = {"x": column * _WIDTH, "y": y, "w": _WIDTH, "h": _HEIGHT}
                yield {**_lines(panel), "gridPos": place}
            y += _HEIGHT


def _lines(panel: Panel) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + number), "expr": query, "legendFormat": name}
            for number, (query, name) in enumerate(panel.queries)
        ],
    }


def _numbered(panels: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"id": number, **panel} for number, panel in enumerate(panels, start=1)]
