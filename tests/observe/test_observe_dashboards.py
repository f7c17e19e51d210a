"""Dashboards and alerts: what Grafana and Prometheus will make of them."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from eksml.observe import alerts, dashboards, metrics
from eksml.observe.grafana import Dashboard, to_json

SERIES = {series for metric in metrics.ALL for series in metric.ray_series}
EXPRESSIONS = [
    *(expression for shown in dashboards.ALL.values() for expression in shown.expressions),
    *(alert.expression for alert in alerts.ALL),
]


def labels_of(series: str) -> set[str]:
    (metric,) = [metric for metric in metrics.ALL if series in metric.ray_series]
    return {*metric.labels, "ray_io_cluster", "le"}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_query_asks_for_a_metric_that_there_is_by_labels_that_it_has(expression: str) -> None:
    asked = re.findall(r"\b(ray_(?!io_)\w+)(?:\{([^}]*)\})?", expression)
    assert asked
    for series, match in asked:
        assert series in SERIES
        assert set(re.findall(r"(\w+)[=!]", match)) <= labels_of(series)
        for by in re.findall(r"by \(([^)]*)\)", expression):
            assert set(by.split(", ")) <= labels_of(series)


def test_every_metric_of_serving_and_streams_is_on_a_dashboard() -> None:
    on_panels = " ".join(
        expression for shown in dashboards.ALL.values() for expression in shown.expressions
    )
    for metric in (*metrics.SERVING, *metrics.STREAMS):
        assert any(series in on_panels for series in metric.ray_series), metric.name


@pytest.mark.parametrize("shown", dashboards.ALL.values(), ids=dashboards.ALL)
def test_grafana_gets_what_it_needs_of_a_dashboard(shown: Dashboard) -> None:
    made = json.loads(json.dumps(to_json(shown)))
    panels = made["panels"]
    assert Counter(panel["id"] for panel in panels).most_common(1)[0][1] == 1
    assert {panel["type"] for panel in panels} == {"row", "timeseries"}
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        if panel["type"] == "timeseries":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert panel["description"]
            assert panel["targets"][0]["refId"] == "A"


@pytest.mark.parametrize("shown", dashboards.ALL.values(), ids=dashboards.ALL)
def test_panels_do_not_lie_on_each_other(shown: Dashboard) -> None:
    taken: Counter[tuple[int, int]] = Counter()
    for panel in to_json(shown)["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            taken.update((x, y) for y in range(place["y"], place["y"] + place["h"]))
    assert max(taken.values()) == 1


@pytest.mark.parametrize("shown", dashboards.ALL.values(), ids=dashboards.ALL)
def test_every_variable_is_used_and_every_used_one_is_there(shown: Dashboard) -> None:
    variables = {variable["name"] for variable in to_json(shown)["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(to_json(shown)["panels"])))
    assert used - {"__rate_interval"} == variables


def test_alerts_are_named_once_and_say_what_to_do() -> None:
    rule: dict[str, Any] = alerts.prometheus_rule()
    rules = [each for group in rule["spec"]["groups"] for each in group["rules"]]
    assert len({each["alert"] for each in rules}) == len(rules) == len(alerts.ALL)
    for each in rules:
        assert re.fullmatch(r"\d+m", each["for"])
        assert each["labels"]["severity"] in {"critical", "warning"}
        assert all(each["annotations"].values())


def test_what_streams_tell_of_is_what_is_written_down() -> None:
    from eksml.streams.report import _NAMES

    told = {f"eksml_stream_{key}": text for key, text in _NAMES.items()}
    assert told == {metric.name: metric.text for metric in metrics.STREAMS}


def test_vllm_has_the_metrics_that_are_read_of_it() -> None:
    loggers = pytest.importorskip("vllm.v1.metrics.loggers")
    source = Path(loggers.__file__).read_text(encoding="utf-8")
    named = set(re.findall(r'name="(vllm:\w+)"', source))
    assert {metric.name for metric in metrics.ENGINE} <= named


def test_the_command_writes_them_into_a_folder(tmp_path: Path) -> None:
    from eksml.cli.main import app

    done = CliRunner().invoke(app, ["dashboards", str(tmp_path / "new" / "folder")])
    assert done.exit_code == 0, done.output
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("alerts.yaml", "serving.json", "streams.json")
    ]
    assert json.loads((folder / "serving.json").read_text())["uid"] == "eksml-serving"
    assert yaml.safe_load((folder / "alerts.yaml").read_text()) == alerts.prometheus_rule()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    from eksml.cli.main import app

    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(app, ["dashboards", str(tmp_path / "file")])
    assert done.exit_code == 1
    assert "can't be written: File exists." in done.output
