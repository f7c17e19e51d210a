"""Doctor looks at a Kubernetes and tells what is missing there, and how to get it.

The findings are judged on plain objects of the API; once, all of them are read from a fake API
server.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.crd import CRDS, needs_crds
from commandline import invoke
from kube_server import KubeServer, kinds

from eksml.cli.checks import addons, devices, operator

Object = dict[str, Any]

INSTALLED: dict[str, kinds.Kinds] = {
    "v1": {**kinds.CORE["v1"], "Node": ("nodes", False)},
    "apps/v1": {"Deployment": ("deployments", True), "DaemonSet": ("daemonsets", True)},
    "storage.k8s.io/v1": {"CSIDriver": ("csidrivers", False)},
    "apiextensions.k8s.io/v1": {"CustomResourceDefinition": ("customresourcedefinitions", False)},
}


def deployment(name: str, image: str, *args: str, ready: int = 1, **metadata: Any) -> Object:
    container = {"image": image, "args": list(args)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "kube-system"} | metadata,
        "spec": {"replicas": 1, "template": {"spec": {"containers": [container]}}},
        "status": {"readyReplicas": ready},
    }


def daemonset(name: str, image: str, *, wanted: int = 2, ready: int = 2) -> Object:
    made = deployment(name, image) | {"kind": "DaemonSet"}
    return made | {"status": {"desiredNumberScheduled": wanted, "numberReady": ready}}


def node(name: str, instance: str, **allocatable: str) -> Object:
    labels = {"node.kubernetes.io/instance-type": instance}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"allocatable": allocatable},
    }


OPERATOR = deployment("kuberay-operator", "quay.io/kuberay/operator:v1.7.0")


# The operator


def test_an_operator_of_the_version_that_is_rendered_for_is_ok() -> None:
    finding = operator.operator([deployment("coredns", "coredns:v1.12"), OPERATOR])
    assert (finding.level, finding.detail) == ("ok", "1.7.0 (kube-system/kuberay-operator)")


@pytest.mark.parametrize(
    ("deployments", "level", "told"),
    [
        ([], "fail", "no KubeRay operator runs"),
        ([deployment("kuberay-operator", "kuberay/operator:v1.4.2")], "warn", "1.4.2"),
        ([deployment("kuberay-operator", "kuberay/operator:v1.7.0", ready=0)], "fail", "not ready"),
        ([deployment("kuberay-operator", "mirror/operator@sha256:1")], "warn", "unknown version"),
    ],
)
def test_an_operator_that_will_not_do_is_told_with_the_remedy(
    deployments: list[Object], level: str, told: str
) -> None:
    finding = operator.operator(deployments)
    assert finding.level == level
    assert told in finding.detail
    assert finding.remedy


def test_a_version_is_read_from_the_chart_where_the_image_has_no_tag() -> None:
    labels = {"helm.sh/chart": "kuberay-operator-1.7.0"}
    found = deployment("kuberay-operator", "mirror/operator@sha256:1", labels=labels)
    assert operator.operator([found]).level == "ok"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--feature-gates=RayCronJob=true,GCSFaultToleranceEmbeddedStorage=true,RayMulti=false",),
        ("--feature-gates", "RayCronJob=true,GCSFaultToleranceEmbeddedStorage=true"),
    ],
)
def test_feature_gates_are_read_from_the_operators_arguments(arguments: tuple[str, ...]) -> None:
    found = deployment("kuberay-operator", "kuberay/operator:v1.7.0", *arguments)
    finding = operator.feature_gates([found])
    assert finding.level == "ok"
    assert finding.detail.startswith("on: RayCronJob, GCSFaultToleranceEmbeddedStorage; off: Ray")


def test_a_gate_that_keeps_the_heads_state_is_missed() -> None:
    finding = operator.feature_gates([OPERATOR])
    assert finding.level == "warn"
    assert "--feature-gates=GCSFaultToleranceEmbeddedStorage=true" in finding.remedy


@pytest.fixture(scope="module")
def raycluster() -> Object:
    """The RayCluster's definition: a megabyte."""
    text = (CRDS / "ray.io_rayclusters.yaml").read_text()
    found: Object = yaml.load(text, Loader=yaml.CSafeLoader)
    return found


@needs_crds
def test_crds_of_the_operators_version_are_ok_and_older_ones_fail(raycluster: Object) -> None:
    crd = copy.deepcopy(raycluster)
    assert operator.definitions(lambda kind: True, crd).level == "ok"
    v1 = next(version for version in crd["spec"]["versions"] if version["name"] == "v1")
    del v1["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["networkPolicy"]
    finding = operator.definitions(lambda kind: True, crd)
    assert (finding.level, "lacks networkPolicy" in finding.detail) == ("fail", True)
    assert "helm does not upgrade CRDs" in finding.remedy


def test_missing_crds_fail_but_for_the_one_that_few_need() -> None:
    assert operator.definitions(lambda kind: kind != "RayJob", None).level == "fail"
    assert operator.definitions(lambda kind: kind != "RayCronJob", None).level == "warn"


# Devices


def test_a_node_that_has_gpus_and_does_not_offer_them_fails() -> None:
    nodes = [node("a", "g6.12xlarge", **{"nvidia.com/gpu": "4"}), node("b", "g6.12xlarge")]
    finding = devices.plugin(devices.NVIDIA, [], nodes)
    assert finding.level == "fail"
    assert finding.detail == "1 nodes have nvidia.com/gpu and do not offer it: b"
    assert "helm upgrade" in finding.remedy


def test_a_plugin_that_runs_is_ok_with_what_it_offers() -> None:
    plugin = daemonset("neuron-device-plugin", "public.ecr.aws/neuron/neuron-device-plugin:2.30.1")
    nodes = [node("a", "trn1.32xlarge", **{"aws.amazon.com/neuron": "16"})]
    finding = devices.plugin(devices.NEURON, [plugin], nodes)
    assert finding.level == "ok"
    assert finding.detail.startswith("2.30.1 (")
    assert "1 nodes offer aws.amazon.com/neuron" in finding.detail


def test_a_plugin_that_is_missing_or_not_ready_is_a_warning() -> None:
    assert devices.plugin(devices.EFA, [], []).level == "warn"
    halting = daemonset("nvidia-device-plugin", "nvcr.io/nvidia/k8s-device-plugin:v0.18.0", ready=1)
    finding = devices.plugin(devices.NVIDIA, [halting], [])
    assert (finding.level, "1 pods are not ready" in finding.detail) == ("warn", True)


def test_a_node_without_efa_is_no_fault_though_its_type_could() -> None:
    plugin = daemonset("aws-efa-k8s-device-plugin", "aws-efa-k8s-device-plugin:v0.5.13")
    assert devices.plugin(devices.EFA, [plugin], [node("a", "g6.12xlarge")]).level == "ok"


def test_nodes_that_bring_their_devices_along_need_no_plugin() -> None:
    nodes = [node("a", "g6.12xlarge", **{"nvidia.com/gpu": "4"})]
    assert devices.plugin(devices.NVIDIA, [], nodes).level == "ok"


# What stands beside


def test_karpenter_tells_its_pools_that_are_not_ready() -> None:
    controller = deployment("karpenter", "public.ecr.aws/karpenter/controller:1.8.2")
    pool = {"metadata": {"name": "gpu"}, "status": {"conditions": []}}
    assert addons.karpenter(True, [controller], [pool]).detail.startswith("1.8.2 (")
    told = {"type": "Ready", "status": "False", "message": "NodeClass is not ready"}
    ill = pool | {"status": {"conditions": [told]}}
    finding = addons.karpenter(True, [controller], [ill])
    assert finding.detail == "NodePools are not ready: gpu (NodeClass is not ready)"
    assert addons.karpenter(True, [], [pool]).detail == "run by EKS, 1 NodePools"
    assert addons.karpenter(False, [], []).level == "warn"


@pytest.mark.parametrize(
    ("served", "deployments", "level"),
    [
        (False, [], "warn"),
        (True, [], "warn"),
        (True, [deployment("kueue-controller-manager", "kueue/kueue:v0.15.3")], "warn"),
        (True, [deployment("kueue-controller-manager", "kueue/kueue:v0.16.0", ready=0)], "warn"),
        (True, [deployment("kueue-controller-manager", "kueue/kueue:v0.16.0")], "ok"),
    ],
)
def test_kueue_must_be_there_and_new_enough(
    served: bool, deployments: list[Object], level: str
) -> None:
    assert addons.kueue(served, deployments).level == level


def test_an_identity_agent_that_lacks_on_nodes_is_told() -> None:
    agent = daemonset("eks-pod-identity-agent", "eks/eks-pod-identity-agent:v0.1.33", ready=0)
    assert addons.pod_identity([agent]).detail == "the agent lacks on 2 nodes"
    assert "create-addon" in addons.pod_identity([]).remedy


# All of it, from an API server


@pytest.fixture
def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeServer]:
    extras = (INSTALLED, kinds.KARPENTER, kinds.KUEUE, kinds.PROMETHEUS)
    with KubeServer(*extras) as server:
        server.namespace("kube-system")
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
        yield server


def levels(*arguments: str) -> dict[str, str]:
    done = invoke("doctor", "--cluster", "--json", *arguments)
    told = json.loads(done.stdout)
    assert told["ok"] == (done.exit_code == 0)
    return {check["name"]: check["level"] for check in told["checks"]}


def test_a_bare_kubernetes_fails_where_eksml_cannot_do_without(kube: KubeServer) -> None:
    del kube.served["ray.io/v1"]
    found = levels()
    assert {name for name, level in found.items() if level == "fail"} == {
        "KubeRay operator",
        "KubeRay CRDs",
    }
    assert found["FSx driver"] == "warn"


@needs_crds
def test_a_kubernetes_with_everything_is_ok(kube: KubeServer, raycluster: Object) -> None:
    gates = "--feature-gates=GCSFaultToleranceEmbeddedStorage=true"
    things = [
        deployment("kuberay-operator", "quay.io/kuberay/operator:v1.7.0", gates),
        deployment("karpenter", "public.ecr.aws/karpenter/controller:1.8.2"),
        deployment("kueue-controller-manager", "registry.k8s.io/kueue/kueue:v0.16.0"),
        daemonset("nvidia-device-plugin", "nvcr.io/nvidia/k8s-device-plugin:v0.18.0"),
        daemonset("neuron-device-plugin", "neuron/neuron-device-plugin:2.30.1"),
        daemonset("aws-efa-k8s-device-plugin", "eks/aws-efa-k8s-device-plugin:v0.5.13"),
        daemonset("eks-pod-identity-agent", "eks/eks-pod-identity-agent:v0.1.33"),
        raycluster,
    ]
    for driver in ("fsx.csi.aws.com", "s3.csi.aws.com"):
        metadata = {"name": driver}
        csi = {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": metadata}
        things.append(csi)
    for thing in things:
        kube.store.put(thing)
    assert set(levels().values()) == {"ok"}


def test_what_may_not_be_read_is_told_and_does_not_hide_the_rest(kube: KubeServer) -> None:
    kube.forbidden.append(("GET", "/daemonsets"))
    kube.store.put(OPERATOR)
    found = levels()
    assert found["KubeRay operator"] == "ok"
    assert found["Pod Identity"] == "warn"


def test_without_a_kubernetes_doctor_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    done = invoke("doctor", "--cluster")
    assert done.exit_code == 1
    assert "aws eks update-kubeconfig" in done.stderr
