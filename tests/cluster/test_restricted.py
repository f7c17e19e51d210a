"""A pod that «restricted» forbids is refused beforehand: its namespace would never let it start."""

from __future__ import annotations

from typing import Any

import pytest

from eksml import Cluster, cpu
from eksml.cluster import Head, Security
from eksml.errors import InvalidSpec

SIDECAR = {"name": "proxy", "image": "team/proxy:1"}
SAFE = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def clusters(spec: dict[str, Any], **fields: Any) -> Cluster:
    return Cluster(name="x", backend="eks", groups=(cpu(pod={"spec": spec}),), **fields)


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"hostPID": True}, "hostPID"),
        ({"volumes": [{"name": "h", "hostPath": {"path": "/"}}]}, "volumes.0.hostPath"),
        ({"securityContext": {"runAsNonRoot": False}}, "securityContext.runAsNonRoot"),
        ({"securityContext": {"runAsUser": 0}}, "securityContext.runAsUser"),
        (
            {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
            "securityContext.seccompProfile",
        ),
        (
            {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
            "securityContext.appArmorProfile",
        ),
        ({"securityContext": {"seLinuxOptions": {"user": "x"}}}, "securityContext.seLinuxOptions"),
    ],
)
def test_a_forbidden_field_of_a_pod_is_refused(spec: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        clusters(spec)
    assert [p.path for p in refused.value.problems] == [f"groups.0.pod.spec.{path}"]
    assert clusters(spec, security=Security(restricted=False))


@pytest.mark.parametrize(
    ("container", "paths"),
    [
        (
            SIDECAR
            | {
                "securityContext": {
                    "allowPrivilegeEscalation": True,
                    "capabilities": {"drop": ["NET_RAW"]},
                }
            },
            {"allowPrivilegeEscalation", "capabilities.drop"},
        ),
        (SIDECAR | {"securityContext": SAFE | {"privileged": True}}, {"privileged"}),
        (SIDECAR | {"securityContext": SAFE | {"procMount": "Unmasked"}}, {"procMount"}),
        (
            {"name": "ray-worker", "securityContext": {"capabilities": {"add": ["IPC_LOCK"]}}},
            {"capabilities.add"},
        ),
        (
            {"name": "ray-worker", "securityContext": {"runAsUser": 0}},
            {"runAsUser"},
        ),
    ],
)
def test_a_forbidden_container_is_refused(container: dict[str, Any], paths: set[str]) -> None:
    for field in ("containers", "initContainers"):
        with pytest.raises(InvalidSpec) as refused:
            clusters({field: [container]})
        at = f"groups.0.pod.spec.{field}.0.securityContext"
        assert {p.path for p in refused.value.problems} == {f"{at}.{path}" for path in paths}


def test_a_port_of_the_host_is_refused() -> None:
    ports = [{"containerPort": 80, "hostPort": 80}]
    with pytest.raises(InvalidSpec, match=r"ports\.0\.hostPort"):
        clusters({"containers": [{"name": "ray-worker", "ports": ports}]})


def test_what_is_allowed_passes_and_the_head_is_held_to_it_too() -> None:
    assert clusters({"containers": [SIDECAR | {"securityContext": SAFE}, {"name": "ray-worker"}]})
    assert clusters({"volumes": [{"name": "tmp", "emptyDir": {}}]})
    head = Head(pod={"spec": {"hostIPC": True}})
    with pytest.raises(InvalidSpec, match=r"head\.pod\.spec\.hostIPC"):
        Cluster(name="x", backend="eks", head=head)
