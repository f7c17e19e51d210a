"""Clusters on a fake Kubernetes: up, status, scale, down; failures that say why and leave nothing.

No real cluster can be had where these tests run. The API server, its operator and its kubelet are
fakes of ours (``tests/kube_server``); the client, HTTP, schemas and server-side apply are real.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kube_server import FakeOperator, KubeServer, Script, kinds
from kube_server.operator import RAY_TOKEN

from eksml import Cluster, backends, cpu
from eksml.backends.kube import KubeRunning, config
from eksml.backends.kube.client import KubeClient
from eksml.backends.kube.objects import Ref
from eksml.cluster.render import objects, ray_cluster
from eksml.errors import (
    ClusterError,
    ClusterInUse,
    ClusterNotUp,
    ClusterStartFailed,
    InvalidSpec,
)


def up(cluster: Cluster, *, timeout_s: float = 20, **options: object) -> KubeRunning:
    running = backends.up(cluster, timeout_s=timeout_s, progress=False, **options)
    assert isinstance(running, KubeRunning)
    return running


def things(kube: KubeServer) -> list[str]:
    """All that is there, but events, which nobody deletes."""
    found = (Ref.of(thing) for thing in kube.store.all() if thing["kind"] != "Event")
    return sorted(map(str, found))


@contextmanager
def fails(kube: KubeServer, failure: str, group: str = "") -> Iterator[FakeOperator]:
    with FakeOperator(kube, Script(failure, group)) as operator:
        yield operator


def test_a_cluster_comes_up_scales_and_goes_down_without_a_trace(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster
) -> None:
    before = things(kube)
    running = up(cluster)
    assert running.started_here
    assert running.spec == cluster
    status = running.status()
    assert status.phase == "running"
    assert status.jobs_address == "http://demo-head-svc.default.svc.cluster.local:8265"
    assert [(node.group, node.phase) for node in status.nodes] == [
        ("head", "running"),
        ("cpu", "running"),
        ("gpu", "running"),
    ]
    assert status.nodes[0].resources == {"CPU": 4.0}
    assert status.nodes[0].node_id == f"node-{status.nodes[0].ip}"
    assert running.token == RAY_TOKEN
    receipt = running.receipt()
    assert receipt is not None
    assert [line.nodes for line in receipt.lines] == [1], "the fake tells no group but the head's"
    assert running.address == "", "GCS cannot be reached from outside"

    running.scale("cpu", 3)
    raycluster = kube.store.get(("ray.io/v1", "RayCluster", "default", "demo"))
    group = raycluster["spec"]["workerGroupSpecs"][0]
    assert (group["minReplicas"], group["replicas"]) == (3, 3), "the autoscaler keeps its floor"
    assert len(up(cluster).nodes()) == 5

    running.down()
    running.down()
    assert things(kube) == before
    with pytest.raises(ClusterNotUp, match="not up any more"):
        running.status()


def test_all_that_was_rendered_was_applied(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster
) -> None:
    kube.served |= kinds.PROMETHEUS
    with up(cluster):
        assert {str(Ref.of(thing)) for thing in objects(cluster)} <= set(things(kube))
        live = kube.store.get(("ray.io/v1", "RayCluster", "default", "demo"))
        assert live["spec"] == ray_cluster(cluster)["spec"]


def test_a_block_takes_down_what_it_started_only(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster
) -> None:
    with up(cluster) as outer:
        with up(cluster) as inner:
            assert not inner.started_here
        assert outer.status().phase == "running"
    assert backends.find("demo") is None


def test_jobs_are_sent_through_the_forward_with_the_token(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster
) -> None:
    with up(cluster) as running:
        env = running.env()
        assert env["RAY_API_SERVER_ADDRESS"].startswith("http://127.0.0.1:")
        assert env["RAY_AUTH_TOKEN"] == RAY_TOKEN
        assert "RAY_ADDRESS" not in env


def test_a_cluster_of_another_specification_is_in_use(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster
) -> None:
    with up(cluster):
        other = Cluster(name="demo", backend="eks", groups=(cpu("m7i.xlarge"),))
        with pytest.raises(ClusterInUse, match="another specification"):
            up(other)
        with pytest.raises(ClusterInUse):
            backends.of(other)
        assert backends.of(cluster) is not None


def test_of_two_that_start_the_same_cluster_at_once_one_wins(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster
) -> None:
    other = Cluster(name="demo", backend="eks", groups=(cpu("m7i.xlarge", name="other"),))
    results: list[object] = []

    def start(one: Cluster) -> None:
        try:
            results.append(up(one))
        except ClusterInUse as error:
            results.append(error)

    threads = [threading.Thread(target=start, args=(one,)) for one in (cluster, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [one for one in results if isinstance(one, KubeRunning)]
    assert winner.status().phase == "running"
    account = kube.store.get(("v1", "ServiceAccount", "default", "demo"))
    assert account is not None, "what the winner needs was not taken away by the loser"
    winner.down()


REASONS = {
    "image": "pull",
    "unschedulable": "nvidia.com/gpu",
    "init": "fetch-model",
    "quota": "quota",
    "crash": "ImportError: no module named torch",
}


@pytest.mark.parametrize("failure", REASONS)
def test_a_start_that_fails_says_why_and_leaves_nothing(
    kube: KubeServer, cluster: Cluster, failure: str
) -> None:
    before = things(kube)
    with fails(kube, failure), pytest.raises(ClusterStartFailed) as told:
        up(cluster, timeout_s=3)
    assert REASONS[failure] in str(told.value)
    assert "was not ready in" in str(told.value)
    assert things(kube) == before


def test_while_it_waits_the_line_says_why(
    kube: KubeServer, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    with fails(kube, "image", "gpu"), pytest.raises(ClusterStartFailed):
        backends.up(cluster, timeout_s=3, progress=True)
    assert "2 of 3 pods. Pod demo-gpu-worker-00003 of group gpu" in capsys.readouterr().err


def test_what_failed_is_kept_if_asked(kube: KubeServer, cluster: Cluster) -> None:
    with fails(kube, "image"):
        with pytest.raises(ClusterStartFailed):
            up(cluster, timeout_s=3, keep=True)
        kept = backends.find("demo")
        assert isinstance(kept, KubeRunning)
        assert kept.status().phase == "starting"
        assert "pull" in str(kept.why())
        kept.down()
    assert things(kube) == ["Namespace default"]


def test_an_interrupt_leaves_nothing(
    kube: KubeServer, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eksml.backends.kube import starting

    def interrupt(state: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(starting, "_progress", interrupt)
    with fails(kube, "unschedulable"), pytest.raises(KeyboardInterrupt):
        up(cluster)
    assert things(kube) == ["Namespace default"]


@pytest.mark.parametrize("kind", ["serviceaccounts", "networkpolicies", "rayclusters"])
def test_a_refused_object_leaves_nothing(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster, kind: str
) -> None:
    kube.forbidden += [("PATCH", f"/{kind}"), ("POST", f"/{kind}")]
    with pytest.raises(ClusterError, match="forbidden"):
        up(cluster)
    assert things(kube) == ["Namespace default"]


def test_a_field_that_somebody_else_manages_stops_the_start(
    kube: KubeServer, operator: FakeOperator, client: KubeClient
) -> None:
    role = "arn:aws:iam::123456789012:role/{}"
    annotations = {"eks.amazonaws.com/role-arn": role.format("theirs")}
    metadata = {"name": "demo", "namespace": "default", "annotations": annotations}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    client.apply(account, manager="terraform")
    before = things(kube)
    cluster = Cluster(name="demo", backend="eks", identity={"role_arn": role.format("ours")})
    with pytest.raises(ClusterError, match=r'conflict with "terraform".*--force'):
        up(cluster)
    assert things(kube) == before

    up(cluster, force=True).down()
    live = client.get(Ref("v1", "ServiceAccount", "demo", "default"))
    assert live is not None, "it was there before, and stays"
    assert live["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] == role.format("ours")


def test_a_pod_that_the_server_would_refuse_is_told_before_the_cluster_is_made(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eksml.backends.kube import up as up_module

    def broken(spec: Cluster) -> dict[str, object]:
        manifest = ray_cluster(spec)
        pod = manifest["spec"]["workerGroupSpecs"][1]["template"]["spec"]
        pod["containers"][0]["volumeMounts"] = [{"name": "nowhere", "mountPath": "/data"}]
        return manifest

    monkeypatch.setattr(up_module, "ray_cluster", broken)
    with pytest.raises(InvalidSpec, match=r"workerGroupSpecs\.1\.template.*nowhere"):
        up(cluster)
    assert things(kube) == ["Namespace default"]


def test_a_rough_api_server_is_survived(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster
) -> None:
    before = things(kube)
    kube.faults.storm(500, 429, "reset", 409, "lost", 503, 504, every=3)
    running = up(cluster)
    assert len(running.nodes()) == 3
    running.down()
    kube.faults.storm()
    assert things(kube) == before


def test_a_cluster_that_is_just_going_is_waited_for(kube: KubeServer, cluster: Cluster) -> None:
    with fails(kube, "silent") as operator:
        with pytest.raises(ClusterStartFailed):
            up(cluster, timeout_s=0.2, keep=True)
        kube.store.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": "last",
                    "namespace": "default",
                    "ownerReferences": [
                        {"uid": thing["metadata"]["uid"]}
                        for thing in kube.store.select("ray.io/v1", "RayCluster")
                    ],
                },
                "spec": {},
            }
        )
    kube.store.delete(("ray.io/v1", "RayCluster", "default", "demo"), foreground=True)
    assert backends.find("demo") is None, "it is not up any more"
    with pytest.raises(ClusterInUse, match="its pods have not ended"):
        up(cluster, timeout_s=0.3)
    assert operator.ips() == []


def test_scaling_outside_the_range_or_of_no_group_changes_nothing(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster
) -> None:
    with up(cluster) as running:
        for group, num_nodes in (("cpu", 4), ("cpu", 0), ("gpu", 2), ("none", 1)):
            with pytest.raises(InvalidSpec):
                running.scale(group, num_nodes)
        assert len(running.nodes()) == 3


def test_scaling_beside_another_writer_changes_only_the_number(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster
) -> None:
    with up(cluster) as running:
        kube.faults.plan(409, method="PATCH", times=2)
        running.scale("cpu", 2)
        groups = kube.store.get(("ray.io/v1", "RayCluster", "default", "demo"))["spec"][
            "workerGroupSpecs"
        ]
        assert [group["replicas"] for group in groups] == [2, 1]


def test_clusters_are_found_in_every_namespace_and_by_namespace(
    kube: KubeServer, operator: FakeOperator
) -> None:
    kube.namespace("team-a")
    kube.namespace("team-b")
    one = up(Cluster(name="demo", namespace="team-a", backend="eks"))
    two = up(Cluster(name="demo", namespace="team-b", backend="eks"))
    assert [running.name for running in backends.list_up()] == ["demo", "demo"]
    with pytest.raises(ClusterError, match="team-a/demo, team-b/demo"):
        backends.find("demo")
    found = backends.find("team-b/demo")
    assert isinstance(found, KubeRunning)
    assert found.namespace == "team-b"
    assert one.spec is not None
    meant = backends.of(one.spec)
    assert isinstance(meant, KubeRunning)
    assert meant.namespace == "team-a"
    one.down()
    two.down()


def test_who_may_not_read_all_namespaces_sees_the_contexts_own(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster
) -> None:
    with up(cluster):
        kube.forbidden.append(("GET", "/apis/ray.io/v1/rayclusters"))
        assert [running.name for running in backends.list_up()] == ["demo"]
        assert backends.find("demo") is not None


def test_what_eksml_did_not_create_is_found_and_not_deleted(
    kube: KubeServer, operator: FakeOperator, client: KubeClient, cluster: Cluster
) -> None:
    template = {"spec": {"containers": [{"name": "ray", "image": "rayproject/ray:2.60.0"}]}}
    body = {"headGroupSpec": {"rayStartParams": {}, "template": template}}
    metadata = {"name": "theirs", "namespace": "default"}
    client.create(
        {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": metadata, "spec": body}
    )
    assert backends.list_up() == []
    running = backends.find("theirs")
    assert running is not None
    assert running.spec is None
    with pytest.raises(ClusterError, match="kubectl delete raycluster"):
        running.down()


def test_without_a_kubeconfig_nobody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("EKSML_HOME", str(tmp_path))
    monkeypatch.setattr(config, "load", lambda: pytest.fail("asked"))
    assert backends.find("demo") is None
    assert backends.list_up() == []
    code = "import sys; from eksml import backends; backends.list_up(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"kubernetes", "eksml.backends.kube.backend"} & set(done.stdout.split())


def test_a_start_without_a_kubeconfig_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: Cluster
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ClusterError, match="aws eks update-kubeconfig"):
        up(cluster)


@pytest.mark.parametrize("text", ["", "a: [", "[]", "current-context: none\nkind: Config"])
def test_a_broken_kubeconfig_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: Cluster, text: str
) -> None:
    (tmp_path / "config").write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(ClusterError, match="Kubernetes configuration"):
        up(cluster)


def test_a_kubernetes_that_does_not_answer_hides_no_local_cluster(
    kube: KubeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from eksml.backends.kube import backend

    monkeypatch.setattr(backend, "_QUICK_S", 0.1)
    kube.faults.plan("reset", times=100)
    assert backends.list_up() == []
    assert "does not answer" in caplog.text


@pytest.mark.parametrize("option", [{"keep": True}, {"force": True}, {"client": object()}])
def test_what_has_no_effect_on_local_clusters_is_refused(option: dict[str, object]) -> None:
    with pytest.raises(InvalidSpec, match="no effect"):
        backends.up(Cluster(name="demo"), **option)
