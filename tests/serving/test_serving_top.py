"""``eksml top`` of a model: what is read of its replicas' pages."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable

import prometheus_client
import pytest
from typer.testing import CliRunner

from eksml.errors import EksmlError, InvalidSpec
from eksml.observe import metrics
from eksml.observe.access_log import Access
from eksml.observe.histogram import quantile
from eksml.serving.instruments import Page
from eksml.serving.request_meters import RequestMeters
from eksml.serving.top import Watch

COMPLETIONS = "/v1/completions"


class Replica:
    """A replica's meters and its ``/metrics``."""

    def __init__(self, name: str, version: str = "v1") -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self.page = Page(self.registry)
        self.meters = RequestMeters("tiny", version, name, [self.page])

    def serve(self, times: int, *, ttft_s: float = 0.2, tokens: int = 11) -> None:
        for _ in range(times):
            self.meters.request_started("acme", "tiny", COMPLETIONS)
            self.meters.request_ended(
                Access("acme", "tiny", COMPLETIONS, 200, ttft_s + 0.5, ttft_s, 5, tokens)
            )

    def text(self) -> str:
        return prometheus_client.generate_latest(self.registry).decode()


def balanced(*replicas: Replica) -> Callable[[str], str]:
    """A balancer that gives each question to the next replica."""
    turns = itertools.cycle(replicas)
    return lambda url: next(turns).text()


def watch(*replicas: Replica) -> Watch:
    ticks = itertools.count()
    return Watch("http://x", balanced(*replicas), lambda: float(next(ticks)))


def test_rates_and_times_are_of_what_happened_between_two_looks() -> None:
    replica = Replica("a")
    replica.serve(100, ttft_s=9.0)
    seen = watch(replica)
    seen.look()  # asks at 0, 1, 2 and 3 seconds; the first page of each counts
    replica.serve(8, ttft_s=0.2)
    [row] = seen.look()
    assert row.requests_per_s == 2.0
    assert row.tokens_per_s == 22.0
    assert row.ttft_p99_s is not None
    assert 0.1 < row.ttft_p99_s <= 0.25
    assert row.token_p50_s == pytest.approx(0.05, rel=0.5)


def test_every_replica_behind_the_balancer_has_its_row() -> None:
    replicas = [Replica("a"), Replica("b", "v2"), Replica("c")]
    seen = watch(*replicas)
    seen.look()
    replicas[1].serve(3)
    rows = seen.look()
    assert [(row.version, row.replica) for row in rows] == [("v1", "a"), ("v1", "c"), ("v2", "b")]
    assert [row.requests_per_s > 0 for row in rows] == [False, False, True]


def test_those_who_wait_wait_at_the_gate_or_in_the_engine() -> None:
    replica = Replica("a")
    for _ in range(5):
        replica.meters.request_started("acme", "tiny", COMPLETIONS)
    replica.meters.waiting("acme", 2)
    replica.page.record(metrics.ENGINE_WAITING, ("tiny", "0"), 1)
    replica.page.record(metrics.KV_USE, ("tiny", "0"), 0.25)
    replica.page.record(metrics.KV_USE, ("tiny", "1"), 0.75)
    [row] = watch(replica).look()
    assert (row.running, row.waiting, row.kv_use) == (3, 3, 0.75)


def test_a_replica_that_was_replaced_is_seen_no_more() -> None:
    old, new = Replica("old"), Replica("new")
    turns = [old] * 4 + [new] * 4
    seen = Watch("http://x", lambda url: turns.pop(0).text())
    seen.look()
    assert [row.replica for row in seen.look()] == ["new"]


def test_a_page_of_something_else_is_told() -> None:
    with pytest.raises(InvalidSpec, match="no numbers of an eksml replica"):
        Watch("http://x", lambda url: "# TYPE up gauge\nup 1\n").look()


def test_an_address_that_does_not_answer_is_told() -> None:
    with pytest.raises(EksmlError, match=r"127\.0\.0\.1:9/metrics does not answer"):
        Watch("http://127.0.0.1:9/v1").look()


@pytest.mark.parametrize("text", ["<html>", "a{ 1\n", "eksml_serve_replica nonsense"])
def test_a_page_that_is_no_page_of_numbers_is_told(text: str) -> None:
    with pytest.raises(EksmlError):
        Watch("http://x", lambda url: text).look()


def test_the_command_shows_a_table_and_json() -> None:
    from eksml.cli.main import app

    with PageServer() as (replica, url):
        replica.serve(4)
        table = CliRunner().invoke(app, ["top", url, "--once"])
        assert table.exit_code == 0, table.output
        assert "ttft p50" in table.stdout
        assert "the-replica" in table.stdout
        told = json.loads(CliRunner().invoke(app, ["top", url, "--json"]).stdout)
    assert told["replicas"][0]["model"] == "tiny"
    assert told["total"]["running"] == 0


class PageServer:
    """A replica's page on a real server."""

    def __enter__(self) -> tuple[Replica, str]:
        replica = Replica("the-replica")
        self._server, self._thread = prometheus_client.start_http_server(
            0, "127.0.0.1", replica.registry
        )
        return replica, f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.mark.parametrize(
    ("part", "wanted"), [(0.5, 1.0), (0.25, 0.5), (0.75, 1.5), (0.99, 2.0), (1.0, 2.0)]
)
def test_a_quantile_lies_evenly_in_its_bucket(part: float, wanted: float) -> None:
    assert quantile(part, {1.0: 2.0, 2.0: 4.0 - (part > 0.9), math.inf: 4.0}) == wanted


def test_nothing_observed_has_no_quantile() -> None:
    assert quantile(0.5, {}) is None
    assert quantile(0.5, {1.0: 0.0, math.inf: 0.0}) is None
