"""Dashboards' queries and alerts on a real Prometheus, which scrapes what real meters counted."""

from __future__ import annotations

import json
import shutil
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import prometheus_client
import pytest
import yaml

from eksml.observe import alerts, dashboards, metrics
from eksml.observe.access_log import Access
from eksml.observe.metrics import Metric
from eksml.serving.instruments import Page
from eksml.serving.request_meters import RequestMeters
from eksml.testing.process import OwnServer

ASKED = ("acme", "tiny", "/v1/completions")
PANELS = [query for shown in dashboards.ALL.values() for query in shown.expressions]


class RayPage(Page):
    """A page with the names that Ray's agents give."""

    def record(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        name = "ray_" + metric.name.replace(":", "_")
        super().record(replace(metric, name=name), labels, value)


def page_of_a_busy_cluster(registry: Any) -> bytes:
    """One more request of each kind, every time it is asked."""
    page = RAY_PAGES.setdefault(registry, RayPage(registry))
    meters = METERS.setdefault(registry, RequestMeters("tiny", "v1", "r1", [page]))
    meters.request_started("acme", "tiny", "/v1/completions")
    meters.waiting("acme", 2)
    meters.waited("acme", 0.1)
    meters.request_ended(Access(*ASKED, 200, 1.5, 0.5, 10, 21, error="died"))
    meters.refused(Access(*ASKED, 429, 0.0, error="queue_full"))
    for metric in (*metrics.STREAMS, *metrics.ENGINE, metrics.HEALTHY):
        page.record(metric, tuple("tiny" for _ in metric.labels), 1)
    return prometheus_client.generate_latest(registry)


RAY_PAGES: dict[Any, RayPage] = {}
METERS: dict[Any, RequestMeters] = {}


class Target(BaseHTTPRequestHandler):
    registry = prometheus_client.CollectorRegistry()

    def do_GET(self) -> None:
        body = page_of_a_busy_cluster(self.registry)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Prometheus(OwnServer):
    """Scrapes a target every second and evaluates all alerts."""

    name = "prometheus"

    def __init__(self, target: str) -> None:
        super().__init__()
        self._target = target

    def _prepare(self) -> None:
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(self._folder / "alerts.yaml")],
            "scrape_configs": [
                {"job_name": "ray", "static_configs": [{"targets": [self._target]}]}
            ],
        }
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        rules = alerts.prometheus_rule()["spec"]
        (self._folder / "alerts.yaml").write_text(yaml.safe_dump(rules))

    def _command(self) -> list[str]:
        return [
            "prometheus",
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]

    def get(self, path: str, **query: str) -> Any:
        """The data of an answer of its API."""
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error


@pytest.fixture(scope="module")
def prometheus() -> Iterator[Prometheus]:
    if shutil.which("prometheus") is None:
        pytest.skip("needs Prometheus: apt-get install prometheus")
    target = ThreadingHTTPServer(("127.0.0.1", 0), Target)
    thread = threading.Thread(target=target.serve_forever, args=(0.02,))
    thread.start()
    try:
        with Prometheus(f"127.0.0.1:{target.server_port}") as server:
            yield server
    finally:
        target.shutdown()
        target.server_close()
        thread.join()


def filled(expression: str) -> str:
    """As Grafana sends it, with every choice on «All»."""
    for variable in ("cluster", "model", "tenant", "run"):
        expression = expression.replace(f"${variable}", ".*")
    return expression.replace("$__rate_interval", "1m")


@pytest.mark.parametrize("expression", PANELS)
def test_every_panel_shows_something(prometheus: Prometheus, expression: str) -> None:
    while not prometheus.get("query", query=filled(expression))["result"]:
        time.sleep(0.2)  # a rate needs two scrapes


def test_prometheus_evaluates_every_alert(prometheus: Prometheus) -> None:
    while True:
        groups = prometheus.get("rules")["groups"]
        rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
        if all(rule["health"] != "unknown" for rule in rules.values()):
            break
        time.sleep(0.2)
    assert rules.keys() == {alert.name for alert in alerts.ALL}
    assert {
        name: rule.get("lastError") for name, rule in rules.items() if "lastError" in rule
    } == {}


def test_the_alert_of_failing_requests_goes_off_when_they_fail(prometheus: Prometheus) -> None:
    while True:
        groups = prometheus.get("rules")["groups"]
        rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
        if rules["EksmlServeFails"]["state"] in ("pending", "firing"):
            break
        time.sleep(0.2)
    [alert] = rules["EksmlServeFails"]["alerts"]
    assert alert["annotations"]["summary"] == "More than 2 % of the requests to tiny fail."
