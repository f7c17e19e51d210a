"""KubeRay's Python client as a second door: its None on every error becomes our errors.

The package is on no registry. ``StandIn`` below is an object of the same interface, made for these
tests: it logs nothing, and returns None where the real one does.
"""

from __future__ import annotations

from typing import Any

import pytest
from kube_server import FakeOperator, KubeServer

from eksml import Cluster, backends
from eksml.backends.kube.client import KubeClient
from eksml.backends.kube.kuberay_client import KuberayDoor
from eksml.backends.kube.objects import UP_ANNOTATION, Ref, ray_cluster_ref
from eksml.backends.kube.submit import submit
from eksml.cluster.render import ray_cluster
from eksml.cluster.workloads import RayJobSpec
from eksml.errors import ClusterError, ClusterInUse, InvalidSpec

JOB = RayJobSpec(entrypoint="python train.py")
REF = ray_cluster_ref("demo", "default")


class StandIn:
    """What is used of ``RayClusterApi`` and ``RayjobApi``, with their way of failing."""

    def __init__(self, kube: KubeServer) -> None:
        from kubernetes import client, config

        self.api = client.CustomObjectsApi(config.new_client_from_config(str(kube.kubeconfig_path)))
        self.calls: list[str] = []

    def create_ray_cluster(self, body: Any, k8s_namespace: str = "default") -> Any:
        return self._try("create", k8s_namespace, body=body)

    def get_ray_cluster(self, name: str, k8s_namespace: str = "default") -> Any:
        return self._try("get", k8s_namespace, name=name)

    def submit_job(self, k8s_namespace: str = "default", job: Any = None) -> Any:
        return self._try("create", k8s_namespace, "rayjobs", body=job)

    def delete_ray_cluster(self, name: str, k8s_namespace: str = "default") -> Any:
        return self._try("delete", k8s_namespace, name=name)

    def _try(self, verb: str, namespace: str, plural: str = "rayclusters", **arguments: Any) -> Any:
        from kubernetes.client.exceptions import ApiException

        self.calls.append(verb)
        call = getattr(self.api, f"{verb}_namespaced_custom_object")
        try:
            return call("ray.io", "v1", namespace, plural, **arguments)
        except ApiException:
            return None


def test_a_cluster_goes_up_and_down_through_it(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster
) -> None:
    api = StandIn(kube)
    with backends.up(cluster, client=api, progress=False) as running:
        assert len(running.nodes()) == 3
    assert api.calls[0] == "get"
    assert {"create", "delete"} <= set(api.calls)
    assert backends.find("demo") is None


@pytest.fixture
def door(kube: KubeServer, client: KubeClient) -> KuberayDoor:
    return KuberayDoor(StandIn(kube), client)


def manifest(cluster: Cluster, call: str = "this call") -> dict[str, Any]:
    body = ray_cluster(cluster)
    body["metadata"]["annotations"] = {UP_ANNOTATION: call}
    return body


def test_the_rendered_body_is_what_it_can_create(
    kube: KubeServer, door: KuberayDoor, cluster: Cluster
) -> None:
    assert StandIn(kube).create_ray_cluster(body=ray_cluster(cluster)) is not None


def test_none_for_a_name_that_is_taken_becomes_in_use(door: KuberayDoor, cluster: Cluster) -> None:
    door.create(manifest(cluster))
    with pytest.raises(ClusterInUse):
        door.create(manifest(cluster, "another call"))


def test_none_for_a_refused_body_becomes_its_problems(door: KuberayDoor, cluster: Cluster) -> None:
    body = manifest(cluster)
    body["spec"]["headGroupSpec"]["nonsense"] = 1
    with pytest.raises(InvalidSpec, match=r"spec\.headGroupSpec\.nonsense"):
        door.create(body)


def test_none_for_what_is_forbidden_becomes_the_servers_words(
    kube: KubeServer, door: KuberayDoor, cluster: Cluster
) -> None:
    kube.forbidden.append(("POST", "/rayclusters"))
    with pytest.raises(ClusterError, match='User "tester" cannot post'):
        door.create(manifest(cluster))


@pytest.mark.parametrize("fault", [500, 429, "lost"])
def test_none_for_what_passes_is_tried_again(
    kube: KubeServer, door: KuberayDoor, client: KubeClient, cluster: Cluster, fault: object
) -> None:
    kube.faults.plan(fault, method="POST", path="rayclusters?")
    kube.faults.plan(fault, method="POST")
    assert door.create(manifest(cluster))["metadata"]["name"] == "demo"
    assert client.get(REF) is not None


def test_none_for_a_failed_read_or_delete_is_not_taken_for_nothing_there(
    kube: KubeServer, door: KuberayDoor, client: KubeClient, cluster: Cluster
) -> None:
    door.create(manifest(cluster))
    kube.faults.plan(500, method="GET")
    assert door.get(REF) is not None
    kube.faults.plan(500, method="DELETE")
    door.delete(REF)
    assert client.get(REF) is None
    assert door.get(REF) is None
    door.delete(REF)


def test_a_job_is_created_through_it(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster
) -> None:
    api = StandIn(kube)
    job = submit(cluster, JOB, name="train", client=api)
    assert api.calls == ["create"]
    assert job.wait(10).succeeded


def test_none_for_a_refused_job_becomes_the_servers_words_and_leaves_nothing(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster
) -> None:
    kube.forbidden.append(("POST", "/rayjobs"))
    with pytest.raises(ClusterError, match='User "tester" cannot post'):
        submit(cluster, JOB, client=StandIn(kube))
    assert kube.store.select("v1", "ServiceAccount") == []
    with pytest.raises(InvalidSpec, match="RayjobApi"):
        submit(cluster, JOB, client=object())
    assert kube.store.select("v1", "ServiceAccount") == []


def test_an_object_of_another_interface_is_refused(kube: KubeServer, client: KubeClient) -> None:
    with pytest.raises(InvalidSpec, match="RayClusterApi"):
        KuberayDoor(object(), client)


def test_the_reference_names_what_it_drives() -> None:
    assert str(REF) == "RayCluster default/demo"
    assert Ref.of(ray_cluster(Cluster(name="demo", backend="eks"))) == REF
