"""Objects around a cluster: applied in order, other managers' fields left alone, taken back."""

from __future__ import annotations

import pytest
from kube_server import KubeServer, kinds

from eksml.backends.kube.apply import Change, read_inventory, write_inventory
from eksml.backends.kube.client import KubeClient
from eksml.backends.kube.objects import OBJECTS_ANNOTATION, Object, Ref
from eksml.errors import ClusterError


def config(name: str, **data: str) -> Object:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def ref(name: str) -> Ref:
    return Ref("v1", "ConfigMap", name, "default")


def by_kubectl(client: KubeClient, thing: Object) -> None:
    client.apply(thing, manager="kubectl")


def test_what_another_manager_owns_is_not_overwritten(kube: KubeServer, client: KubeClient) -> None:
    by_kubectl(client, config("shared", quota="8"))
    with pytest.raises(ClusterError) as refused:
        Change(client, "demo").apply([config("shared", quota="16")])
    assert '.data.quota (conflict with "kubectl")' in str(refused.value)
    assert "--force" in str(refused.value)
    assert client.get(ref("shared"))["data"] == {"quota": "8"}


def test_force_takes_the_field_over(kube: KubeServer, client: KubeClient) -> None:
    by_kubectl(client, config("shared", quota="8", other="kept"))
    Change(client, "demo", force=True).apply([config("shared", quota="16")])
    assert client.get(ref("shared"))["data"] == {"quota": "16", "other": "kept"}
    with pytest.raises(ClusterError, match="eksml"):
        by_kubectl(client, config("shared", quota="8"))


def test_a_field_that_agrees_is_shared_without_force(kube: KubeServer, client: KubeClient) -> None:
    by_kubectl(client, config("shared", quota="8"))
    Change(client, "demo").apply([config("shared", quota="8", ours="1")])
    assert client.get(ref("shared"))["data"] == {"quota": "8", "ours": "1"}


def test_the_labels_that_say_whose_an_object_is_stay_with_its_owner(
    kube: KubeServer, client: KubeClient
) -> None:
    def labelled(manager: str) -> Object:
        thing = config("shared")
        labels = {"app.kubernetes.io/managed-by": manager, "app.kubernetes.io/instance": manager}
        return {**thing, "metadata": {**thing["metadata"], "labels": labels}}

    client.apply(labelled("Helm"), manager="helm")
    Change(client, "demo").apply([labelled("eksml")])
    live = client.get(ref("shared"))
    assert live["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


def test_applying_again_removes_what_is_not_wanted_any_more(
    kube: KubeServer, client: KubeClient
) -> None:
    Change(client, "demo").apply([config("c", a="1", b="2")])
    Change(client, "demo").apply([config("c", a="1")])
    assert client.get(ref("c"))["data"] == {"a": "1"}


def test_undo_removes_what_was_created_and_leaves_what_was_there(
    kube: KubeServer, client: KubeClient
) -> None:
    by_kubectl(client, config("theirs", a="1"))
    change = Change(client, "demo")
    change.apply([config("theirs", b="2"), config("ours")])
    change.undo(RuntimeError())
    assert client.get(ref("ours")) is None
    assert client.get(ref("theirs"))["data"] == {"a": "1", "b": "2"}


def test_an_object_whose_answer_was_lost_is_undone_too(
    kube: KubeServer, client: KubeClient
) -> None:
    hasty = KubeClient(client.access, patience_s=0)
    hasty.get(ref("c"))  # discovery
    change = Change(hasty, "demo")
    kube.faults.plan("lost", method="PATCH")
    with pytest.raises(ClusterError):
        change.apply([config("c")])
    assert client.get(ref("c")) is not None
    change.undo(RuntimeError())
    assert client.get(ref("c")) is None


def test_what_cannot_be_undone_is_told(kube: KubeServer, client: KubeClient) -> None:
    change = Change(client, "demo")
    change.apply([config("stuck"), config("free")])
    kube.forbidden.append(("DELETE", "stuck"))
    failure = RuntimeError("the first failure")
    change.undo(failure)
    (note,) = failure.__notes__
    assert note.startswith("ConfigMap default/stuck was left behind")
    assert client.get(ref("free")) is None


def test_a_server_that_is_gone_is_not_asked_for_each_object(
    kube: KubeServer, client: KubeClient
) -> None:
    change = Change(KubeClient(client.access, patience_s=0.2), "demo")
    change.apply([config("a"), config("b"), config("c")])
    kube.faults.plan("reset", times=1000)
    failure = RuntimeError("the first failure")
    change.undo(failure)
    assert failure.__notes__[0].startswith("ConfigMap default/c was left behind: Kubernetes at")
    assert failure.__notes__[1:] == ["So were ConfigMap default/a, ConfigMap default/b."]


def test_a_pod_monitor_is_left_out_where_there_is_no_prometheus(
    kube: KubeServer, client: KubeClient
) -> None:
    metadata = {"name": "demo", "namespace": "default"}
    group = "monitoring.coreos.com/v1"
    monitor = {"apiVersion": group, "kind": "PodMonitor", "metadata": metadata}
    change = Change(client, "demo")
    change.apply([monitor])
    (told,) = change.left_out
    assert told.endswith("Install the Prometheus operator.")
    assert change.created == []
    kube.served |= kinds.PROMETHEUS
    change = Change(client, "demo")
    change.apply([monitor])
    assert change.created == [Ref(group, "PodMonitor", "demo", "default")]


def test_a_pool_fails_where_there_is_no_karpenter(kube: KubeServer, client: KubeClient) -> None:
    pool = {"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": "p"}}
    with pytest.raises(ClusterError, match="Install Karpenter"):
        Change(client, "demo").apply([pool])


def test_the_inventory_reads_back() -> None:
    refs = [ref("a"), Ref("karpenter.sh/v1", "NodePool", "p")]
    text = write_inventory(refs)
    assert read_inventory({"metadata": {"annotations": {OBJECTS_ANNOTATION: text}}}) == refs
    assert read_inventory({"metadata": {}}) == []
