"""How a node is started, as data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eksml import Cluster, gpu, neuron
from eksml.backends import launch
from eksml.backends.ports import free_ports, is_free

CLUSTER = Cluster(
    name="mine",
    groups=(
        gpu(
            cpus=4,
            gpus=2,
            memory="1Gi",
            market="spot",
            labels={"team": "a"},
            env={"ONLY_GPU": "yes"},
        ),
        neuron(neuron_cores=32, resources={"disk": 0.5}, object_store_memory="512Mi"),
    ),
    env={"RAY_LOG_TO_STDERR": "0", "X": "1"},
    notice_s=7,
)
SITE = launch.Site.choose(CLUSTER, Path("/tmp/t"), Path("/home/me/token"))


def options(command: list[str]) -> dict[str, str]:
    return dict(word.removeprefix("--").split("=", 1) for word in command if "=" in word)


def test_a_worker_offers_what_its_group_says() -> None:
    told = options(launch.worker_command(CLUSTER, "gpu", "gpu-1", SITE, 1))
    assert (told["num-cpus"], told["num-gpus"], told["memory"]) == ("4", "2", str(1024**3))
    assert told["address"] == SITE.address
    assert set(told["labels"].split(",")) == {
        "team=a",
        "ray.io/node-group=gpu",
        "ray.io/market-type=spot",
        "eksml.io/node=gpu-1",
    }


def test_neuron_cores_and_custom_resources_travel_as_resources() -> None:
    told = options(launch.worker_command(CLUSTER, "neuron", "neuron-1", SITE, 1))
    assert json.loads(told["resources"]) == {"neuron_cores": 32, "disk": 0.5}
    assert told["object-store-memory"] == str(512 * 1024**2)


def test_no_two_nodes_share_a_port_or_an_address() -> None:
    first = options(launch.head_command(CLUSTER, SITE))
    second = options(launch.worker_command(CLUSTER, "gpu", "gpu-1", SITE, 1))
    ports = [value for told in (first, second) for key, value in told.items() if "port" in key]
    chosen = [port for port in ports if port != "0"]
    assert len(chosen) == len(set(chosen))
    assert len({launch.node_ip(ordinal) for ordinal in range(1000)}) == 1000


def test_rays_variables_come_from_the_specification_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of another cluster")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    variables = launch.node_environment(CLUSTER, CLUSTER.group("gpu"), SITE, "mark")
    assert "RAY_ADDRESS" not in variables
    assert "RAY_AUTH_TOKEN" not in variables
    assert variables["AWS_PROFILE"] == "mine"
    assert variables["RAY_LOG_TO_STDERR"] == "0"
    assert variables["X"] == "1"
    assert variables["ONLY_GPU"] == "yes"
    assert variables["RAY_AUTH_MODE"] == "token"
    assert variables["RAY_AUTH_TOKEN_PATH"] == "/home/me/token"
    assert variables["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] == "7"


def test_a_head_keeps_the_dashboard_port_that_it_is_given() -> None:
    cluster = Cluster.from_yaml("{name: mine, head: {dashboard_port: 8265}}")
    site = launch.Site.choose(cluster, SITE.temp, SITE.token_path)
    assert site.jobs_address == "http://127.0.0.1:8265"


def test_free_ports_are_free_and_different() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(is_free(port) for port in ports)
