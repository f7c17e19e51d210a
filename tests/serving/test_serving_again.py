"""What is deployed again goes on as it is, unless it changed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from family import titled

from eksml.serving import ModelSpec, ServeSpec
from eksml.serving.apps import Part, parts_of
from eksml.serving.stage import Here
from eksml.serving.verb import serve

if TYPE_CHECKING:
    from eksml.serving.endpoint import Endpoint


def replicas(name: str) -> list[int]:
    """The processes of an application's replicas."""
    return [found.pid for found in titled(f"ServeReplica:{name}:")]


def replica(name: str) -> int:
    """The process of an application's only replica."""
    [found] = replicas(name)
    return found


def port_of(endpoint: Endpoint) -> int:
    port = urlsplit(endpoint.url).port
    assert port is not None
    return port


def until_running(stage: Here, *names: str) -> None:
    end_s = time.monotonic() + 60
    while any(stage.states()[name].status != "RUNNING" for name in names):
        assert time.monotonic() < end_s, stage.states()
        time.sleep(0.1)


def gateway(name: str, models: tuple[str, ...]) -> Part:
    """An application that needs no engine."""
    found = tuple(ModelSpec(name=model, source="/nowhere", device="cpu") for model in models)
    parts = parts_of(ServeSpec(name=name, route=f"/{name}", models=found), "http://127.0.0.1:9")
    return parts[-1]


@pytest.fixture
def stage(endpoint: Endpoint) -> Iterator[Here]:
    """Serve as it runs for ``endpoint``."""
    stage = Here(port_of(endpoint))
    yield stage
    stage.delete(["one", "other"])


def test_of_several_applications_only_those_that_changed_are_replaced(stage: Here) -> None:
    one, other = gateway("one", ("a", "b")), gateway("other", ("a", "b"))
    stage.deploy([one, other])
    until_running(stage, "one", "other")
    before = replica("one"), replica("other")
    stage.deploy([one, gateway("other", ("a", "b", "c"))])
    end_s = time.monotonic() + 60
    while len(now := replicas("other")) != 1 or now == [before[1]]:
        assert time.monotonic() < end_s
        time.sleep(0.1)
    assert replica("one") == before[0]
    stage.delete(["one"])
    stage.deploy([one])
    until_running(stage, "one")


def test_serving_a_model_again_leaves_its_engine_as_it_is(
    endpoint: Endpoint, served_model: ModelSpec
) -> None:
    before = replica("tests"), [core.pid for core in titled("VLLM::EngineCore")]
    again = serve(served_model, port=port_of(endpoint), name="tests")
    endpoint.update(models=(served_model,))
    assert again.status()["tests"].status == "RUNNING"
    assert (replica("tests"), [core.pid for core in titled("VLLM::EngineCore")]) == before
