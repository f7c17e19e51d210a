"""What a person and an operator see of a model that is really served.

Commands run in a process of their own: to this one Ray hands on what replicas print.
"""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING

import openai
import pytest
from commandline import eksml

if TYPE_CHECKING:
    from eksml.serving.endpoint import Endpoint


pytestmark = pytest.mark.long


def read(endpoint: Endpoint, path: str) -> str:
    with urllib.request.urlopen(endpoint.url.removesuffix("/v1") + path) as response:
        return response.read().decode()


def series(page: str, start: str) -> dict[str, float]:
    """The samples whose name and labels begin so."""
    lines = [line for line in page.splitlines() if line.startswith(start)]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_a_person_chats_with_it_from_the_terminal(endpoint: Endpoint) -> None:
    done = eksml("chat", endpoint.url, "hello there", "--model", "tiny")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_playground_stands_at_its_address(endpoint: Endpoint) -> None:
    assert "<title>eksml playground</title>" in read(endpoint, "/")


def test_its_page_counts_a_streams_tokens_though_the_client_did_not_ask(endpoint: Endpoint) -> None:
    before = sum(series(read(endpoint, "/metrics"), "eksml_serve_tokens_out_total").values())
    answer = endpoint.client().completions.create(
        model="tiny", prompt="a b c", max_tokens=7, stream=True, extra_body={"ignore_eos": True}
    )
    assert all(event.usage is None for event in answer)
    page = read(endpoint, "/metrics")
    after = sum(series(page, "eksml_serve_tokens_out_total").values())
    assert after - before == 7
    assert sum(series(page, "eksml_serve_ttft_seconds_count").values()) > 0
    assert series(page, "vllm:generation_tokens_total")


def test_its_page_names_the_replica_and_counts_refusals(endpoint: Endpoint) -> None:
    with pytest.raises(openai.BadRequestError):
        endpoint.client().completions.create(model="tiny", prompt="a", max_tokens=-1)
    page = read(endpoint, "/metrics")
    assert len(series(page, "eksml_serve_replica{")) == 1
    assert sum(series(page, "eksml_serve_refused_total").values()) > 0


def test_top_shows_it(endpoint: Endpoint) -> None:
    done = eksml("top", endpoint.url, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    [row] = told["replicas"]
    assert row["model"] == "tiny"
    assert row["kv_use"] is not None
    assert "ttft p50" in eksml("top", endpoint.url, "--once").stdout
