"""The client: what it asks again, what it translates. Against a fake API server."""

from __future__ import annotations

import socket
import time

import pytest
from kube_server import KubeServer

from eksml import Cluster
from eksml.backends.kube.client import KubeClient
from eksml.backends.kube.door import OwnDoor
from eksml.backends.kube.objects import UP_ANNOTATION, Ref
from eksml.backends.kube.refusals import NotServed, Refusal, Refused, Unreachable
from eksml.cluster.render import ray_cluster
from eksml.errors import ClusterError, ClusterInUse, ClusterNotUp, EksmlError, InvalidSpec

PASSING = [409, 429, 500, 502, 503, 504, "reset", "lost"]
CONFIG = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "c", "namespace": "default"},
}
REF = Ref("v1", "ConfigMap", "c", "default")


def test_the_rendered_cluster_is_what_the_official_client_can_create(
    kube: KubeServer, cluster: Cluster
) -> None:
    from kubernetes import client, config

    api = client.CustomObjectsApi(config.new_client_from_config(str(kube.kubeconfig_path)))
    body = ray_cluster(cluster)
    made = api.create_namespaced_custom_object("ray.io", "v1", "default", "rayclusters", body)
    assert made["spec"] == body["spec"]


def test_the_server_refuses_the_same_body_with_one_field_spelled_wrong(
    kube: KubeServer, client: KubeClient, cluster: Cluster
) -> None:
    body = ray_cluster(cluster)
    body["spec"]["headGroupSpecs"] = body["spec"].pop("headGroupSpec")
    with pytest.raises(InvalidSpec) as refused:
        client.create(body)
    assert {problem.path for problem in refused.value.problems} == {
        "spec.headGroupSpecs",
        "spec.headGroupSpec",
    }


@pytest.mark.parametrize("fault", PASSING)
def test_what_may_pass_is_asked_again(kube: KubeServer, client: KubeClient, fault: object) -> None:
    client.apply({**CONFIG, "data": {"a": "1"}})
    assert client.get(REF) is not None
    kube.faults.plan(fault, times=2)
    assert client.get(REF)["data"] == {"a": "1"}
    kube.faults.plan(fault, method="PATCH", times=2)
    assert client.apply({**CONFIG, "data": {"a": "2"}})["data"] == {"a": "2"}
    kube.faults.plan(fault, method="DELETE", times=2)
    client.delete(REF)
    assert client.get(REF) is None


@pytest.mark.parametrize("fault", [501, 400, 403, 404, 405, 422])
def test_what_will_not_pass_is_asked_once(kube: KubeServer, client: KubeClient, fault: int) -> None:
    client.apply(CONFIG)
    before = len(kube.faults.requests)
    kube.faults.plan(fault)
    with pytest.raises((ClusterError, InvalidSpec)):
        client.apply(CONFIG)
    assert len(kube.faults.requests) == before + 1


@pytest.mark.parametrize("fault", ["lost", 409, 500, "reset"])
def test_a_cluster_whose_answer_was_lost_is_not_taken_for_somebody_elses(
    kube: KubeServer, client: KubeClient, cluster: Cluster, fault: object
) -> None:
    body = ray_cluster(cluster)
    body["metadata"]["annotations"] = {UP_ANNOTATION: "this call"}
    kube.faults.plan(fault, method="POST")
    assert OwnDoor(client).create(body)["spec"] == body["spec"]
    body["metadata"]["annotations"] = {UP_ANNOTATION: "another call"}
    with pytest.raises(ClusterInUse, match="exists already"):
        OwnDoor(client).create(body)


@pytest.mark.parametrize("body", ["", "<html>", "[]", "{}", '{"details": null}', '{"code": 1}'])
def test_every_status_becomes_an_error_of_ours_whatever_its_body(body: str) -> None:
    for status in range(300, 600):
        error = Refusal.read(status, body).error(REF, "https://there")
        assert isinstance(error, EksmlError)
        assert str(REF) in str(error) or status == 401


def test_it_waits_as_long_as_the_server_asks(kube: KubeServer, client: KubeClient) -> None:
    client.apply(CONFIG)
    kube.faults.plan(429, retry_after_s=1)
    began = time.monotonic()
    client.get(REF)
    assert time.monotonic() - began >= 1


def test_patience_ends(kube: KubeServer) -> None:
    client = KubeClient.connect(patience_s=0.2)
    assert client.get(REF) is None
    kube.faults.plan(503, times=1000)
    with pytest.raises(Unreachable, match="answered 503 for ConfigMap default/c, after retries"):
        client.get(REF)


def test_a_server_that_is_not_there_is_told_with_the_remedy(kube: KubeServer) -> None:
    client = KubeClient.connect(patience_s=0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client.access.configuration.host = f"http://127.0.0.1:{port}"
    client.access.configuration.refresh_api_key_hook = None  # it would put the host back
    with pytest.raises(Unreachable, match="Is the VPN up"):
        client.get(REF)


def test_a_refused_token_says_how_to_sign_in(kube: KubeServer, client: KubeClient) -> None:
    client.access.configuration.api_key["BearerToken"] = "Bearer stale"
    client.access.configuration.refresh_api_key_hook = None
    with pytest.raises(ClusterError, match="aws sso login"):
        client.get(REF)


def test_what_is_forbidden_is_told_in_the_servers_words(
    kube: KubeServer, client: KubeClient
) -> None:
    kube.forbidden.append(("PATCH", "configmaps"))
    with pytest.raises(Refused, match='User "tester" cannot patch'):
        client.apply(CONFIG)


def test_a_missing_namespace_is_told_as_such(kube: KubeServer, client: KubeClient) -> None:
    elsewhere = {**CONFIG, "metadata": {"name": "c", "namespace": "team-a"}}
    with pytest.raises(ClusterError, match="kubectl create namespace"):
        client.apply(elsewhere)


def test_a_missing_operator_is_told_as_such(
    kube: KubeServer, client: KubeClient, cluster: Cluster
) -> None:
    del kube.served["ray.io/v1"]
    with pytest.raises(NotServed, match="Install the KubeRay operator"):
        client.create(ray_cluster(cluster))


def test_nulls_do_not_travel(kube: KubeServer, client: KubeClient) -> None:
    made = client.apply({**CONFIG, "data": {"a": "1", "b": None}})
    assert made["data"] == {"a": "1"}


def test_only_the_very_object_is_deleted(kube: KubeServer, client: KubeClient) -> None:
    client.apply(CONFIG)
    with pytest.raises(ClusterError, match="Precondition failed"):
        client.delete(REF, uid="another one's")
    assert client.get(REF) is not None


def test_a_patch_on_what_is_gone_is_told(kube: KubeServer, client: KubeClient) -> None:
    with pytest.raises(ClusterNotUp, match="is not there"):
        client.patch(REF, [{"op": "add", "path": "/data", "value": {}}])


def test_what_only_the_dry_run_did_is_not_done(kube: KubeServer, client: KubeClient) -> None:
    client.apply(CONFIG, dry_run=True)
    client.create(CONFIG, dry_run=True)
    assert client.get(REF) is None
