"""Who reaches a cluster's pods: asked of the rendered policy as a network plugin reads it."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from kinds import assert_valid

from eksml import Cluster
from eksml.cluster.render.network import network

GCS, DASHBOARD, CLIENT, SERVE, METRICS, WORKER = 6379, 8265, 10001, 8000, 8080, 20123

Pod = tuple[str, dict[str, str]]
OWN: Pod = (
    "team-a",
    {"app.kubernetes.io/instance": "demo", "app.kubernetes.io/managed-by": "eksml"},
)
OPERATOR: Pod = ("kuberay", {"app.kubernetes.io/component": "kuberay-operator"})
SUBMITTER: Pod = ("team-a", {"ray.io/originated-from-crd": "RayJob"})
GATEWAY: Pod = ("team-a", {"gateway.networking.k8s.io/gateway-name": "demo-gateway"})
PROMETHEUS: Pod = ("monitoring", {"app.kubernetes.io/name": "prometheus"})
STRANGER: Pod = ("team-a", {"app": "shop"})
NOTEBOOK: Pod = ("notebooks", {"app": "jupyter"})
API: Pod = ("team-a", {"app": "api"})


def policy(**fields: Any) -> dict[str, Any]:
    (made,) = network(Cluster(name="demo", namespace="team-a", backend="eks", **fields))
    return made


def admits(made: dict[str, Any], pod: Pod, port: int) -> bool:
    """Whether ``pod`` may open a TCP connection to ``port`` of a pod that ``made`` selects."""
    return any(
        any(_matches(peer, pod, made["metadata"]["namespace"]) for peer in rule["from"])
        and ("ports" not in rule or {"protocol": "TCP", "port": port} in rule["ports"])
        for rule in made["spec"]["ingress"]
    )


def _matches(peer: dict[str, Any], pod: Pod, home: str) -> bool:
    namespace, labels = pod
    place = {"kubernetes.io/metadata.name": namespace}
    at_home = "namespaceSelector" in peer or namespace == home
    return (
        at_home
        and _selects(peer.get("namespaceSelector", {}), place)
        and _selects(peer.get("podSelector", {}), labels)
    )


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    wanted = selector.get("matchLabels", {})
    present = [expression["key"] for expression in selector.get("matchExpressions", ())]
    return wanted.items() <= labels.items() and labels.keys() >= set(present)


def reaches(made: dict[str, Any], address: str) -> bool:
    """Whether a pod that ``made`` selects may speak to ``address``."""
    target = ipaddress.ip_address(address)
    blocks = [peer["ipBlock"] for rule in made["spec"]["egress"] for peer in rule["to"][1:]]
    return any(
        target in ipaddress.ip_network(block["cidr"])
        and not any(target in ipaddress.ip_network(hole) for hole in block["except"])
        for block in blocks
    )


def test_the_policy_is_valid_and_guards_the_clusters_own_pods() -> None:
    made = policy(security={"clients": ({"namespace": "notebooks"}, {"labels": {"app": "api"}})})
    assert_valid(made)
    assert made["spec"]["podSelector"]["matchLabels"] == OWN[1]
    assert made["spec"]["policyTypes"] == ["Ingress", "Egress"]


@pytest.mark.parametrize("port", [GCS, DASHBOARD, CLIENT, SERVE, METRICS, WORKER])
def test_the_clusters_own_pods_reach_each_other_on_every_port(port: int) -> None:
    assert admits(policy(), OWN, port)


@pytest.mark.parametrize(
    ("pod", "ports"),
    [
        (OPERATOR, {DASHBOARD, SERVE}),
        (SUBMITTER, {DASHBOARD}),
        (GATEWAY, {SERVE}),
        (PROMETHEUS, {METRICS}),
        (STRANGER, set()),
        (NOTEBOOK, set()),
        (("team-b", OWN[1]), set()),
        (("team-b", SUBMITTER[1]), set()),
    ],
)
def test_others_reach_what_they_need_and_nothing_else(pod: Pod, ports: set[int]) -> None:
    made = policy()
    every = {GCS, DASHBOARD, CLIENT, SERVE, METRICS, WORKER}
    assert {port for port in every if admits(made, pod, port)} == ports


def test_clients_reach_what_is_made_for_others_but_not_the_control_store_nor_workers() -> None:
    made = policy(security={"clients": ({"namespace": "notebooks"}, {"labels": {"app": "api"}})})
    for client in (NOTEBOOK, API):
        assert all(admits(made, client, port) for port in (DASHBOARD, CLIENT, SERVE, METRICS))
        assert not any(admits(made, client, port) for port in (GCS, WORKER))
    assert not admits(made, STRANGER, DASHBOARD)
    assert not admits(made, ("team-b", API[1]), DASHBOARD)


def test_an_empty_client_is_the_whole_namespace() -> None:
    assert admits(policy(security={"clients": ({},)}), STRANGER, DASHBOARD)


def test_unmonitored_clusters_open_no_metrics_port() -> None:
    assert not admits(policy(monitoring=False), PROMETHEUS, METRICS)


def test_pods_reach_the_world_and_their_own_identity_but_not_the_nodes() -> None:
    made = policy()
    assert reaches(made, "52.216.1.1")
    assert reaches(made, "10.0.3.7")
    assert reaches(made, "169.254.170.23")
    assert reaches(made, "fd00:ec2::23")
    assert not reaches(made, "169.254.169.254")
    assert not reaches(made, "fd00:ec2::254")


def test_the_policy_can_be_left_to_others() -> None:
    spec = Cluster(name="demo", backend="eks", security={"network_policy": False})
    assert network(spec) == []
