"""Rule 16: what the API server takes in a pod template, and would refuse in a Pod."""

from __future__ import annotations

import pytest
from manifests import template

from eksml.cluster.rules import check_pod

CONTAINER = "t.spec.containers.0"
LIMITS = f"{CONTAINER}.resources.limits"
REQUESTS = f"{CONTAINER}.resources.requests"


def problems(pod: object) -> list[tuple[str, str]]:
    """Paths and messages."""
    return [(problem.path, problem.message) for problem in check_pod(pod, "t")]


def paths(pod: object) -> set[str]:
    return {path for path, _ in problems(pod)}


def with_container(**fields: object) -> dict[str, object]:
    pod = template()
    pod["spec"]["containers"][0] |= fields
    return pod


def with_spec(**fields: object) -> dict[str, object]:
    pod = template()
    pod["spec"] |= fields
    return pod


def with_resources(limits: dict[str, object], **requests: object) -> dict[str, object]:
    resources = {"limits": {"cpu": "4", "memory": "16Gi", **limits}, "requests": requests}
    return with_container(resources=resources)


def test_a_whole_pod_is_accepted():
    pod = with_container(
        env=[
            {"name": "A", "value": "1"},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ],
        ports=[{"name": "gcs", "containerPort": 6379}, {"containerPort": 8265}],
        volumeMounts=[{"name": "data", "mountPath": "/data"}],
        lifecycle={"preStop": {"exec": {"command": ["ray", "stop"]}}},
        readinessProbe={"httpGet": {"port": "gcs"}, "periodSeconds": 5},
        resources={
            "limits": {
                "cpu": "90500m",
                "memory": "1.5Ti",
                "nvidia.com/gpu": 8,
                "vpc.amazonaws.com/efa": "32",
                "hugepages-2Mi": "5120Mi",
            },
            "requests": {"cpu": 90, "nvidia.com/gpu": "8"},
        },
        securityContext={
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    )
    pod["metadata"] = {"labels": {"team": "a"}, "annotations": {"karpenter.sh/do-not-disrupt": "x"}}
    pod["spec"] |= {
        "serviceAccountName": "team-a",
        "terminationGracePeriodSeconds": 120,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 100},
        "nodeSelector": {
            "node.kubernetes.io/instance-type": "p5.48xlarge",
            "karpenter.sh/capacity-type": "spot",
        },
        "tolerations": [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "team", "value": "a"},
        ],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "fsx"}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Gi"}},
        ],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"team": "a"}},
            }
        ],
    }
    assert problems(pod) == []


def test_a_gpu_is_not_divided():
    for amount in ("0.5", "500m"):
        pod = with_resources({"nvidia.com/gpu": amount})
        assert paths(pod) == {f"{LIMITS}[nvidia.com/gpu]"}


def test_a_gpu_request_needs_a_limit():
    assert paths(with_resources({}, **{"nvidia.com/gpu": 1})) == {f"{REQUESTS}[nvidia.com/gpu]"}
    assert paths(with_resources({"nvidia.com/gpu": 1})) == set(), "the request follows the limit"


def test_efa_cards_are_requested_as_they_are_limited_and_come_with_huge_pages():
    pages = {"hugepages-2Mi": "5120Mi"}
    unequal = with_resources({"vpc.amazonaws.com/efa": 4, **pages}, **{"vpc.amazonaws.com/efa": 1})
    assert paths(unequal) == {f"{REQUESTS}[vpc.amazonaws.com/efa]"}
    assert paths(with_resources({"vpc.amazonaws.com/efa": 4})) == {LIMITS}
    assert paths(with_resources({"vpc.amazonaws.com/efa": 4, **pages})) == set()


def test_huge_pages_are_whole_are_limited_and_need_memory_beside_them():
    assert paths(with_resources({"hugepages-2Mi": "3Mi"})) == {f"{LIMITS}.hugepages-2Mi"}
    assert paths(with_resources({}, **{"hugepages-2Mi": "4Mi"})) == {f"{REQUESTS}.hugepages-2Mi"}
    alone = with_container(resources={"limits": {"hugepages-2Mi": "4Mi"}})
    assert paths(alone) == {f"{LIMITS}.hugepages-2Mi"}


def test_a_request_is_not_more_than_its_limit():
    assert paths(with_resources({}, cpu="4001m")) == {f"{REQUESTS}.cpu"}
    assert paths(with_resources({}, cpu="4000m", memory="16Gi")) == set()


@pytest.mark.parametrize(
    "amount", ["", "4GB", "Gi", "1,5", "4 Gi", "1e", "-1", 0.5, True, None, []]
)
def test_an_amount_is_a_quantity(amount):
    assert f"{LIMITS}.memory" in paths(with_resources({"memory": amount}))


def test_memory_in_thousandths_of_a_byte_is_a_typing_error():
    assert problems(with_resources({"memory": "512m"})) == [
        (f"{LIMITS}.memory", "'512m' is a part of one byte.")
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("nvidia.com/gpus", "nvidia.com/gpu"),
        ("aws.amazon.com/neuroncores", "aws.amazon.com/neuroncore"),
        ("vpc.amazonaws.com/efas", "vpc.amazonaws.com/efa"),
        ("CPU", "cpu"),
        ("mem", "memory"),
    ],
)
def test_a_resource_that_no_node_offers_is_told_with_the_one_that_was_meant(name, meant):
    found = [
        problem
        for problem in check_pod(with_resources({name: 1}), "t")
        if "resource of Kubernetes" in problem.message or "device plugin" in problem.message
    ]
    assert len(found) == 1
    assert name == "CPU" or meant in found[0].remedy


def test_a_volume_that_is_mounted_is_there():
    mount = {"name": "dta", "mountPath": "/data"}
    pod = with_container(volumeMounts=[mount])
    pod["spec"]["volumes"] = [{"name": "data", "emptyDir": {}}]
    (problem,) = check_pod(pod, "t")
    assert problem.path == f"{CONTAINER}.volumeMounts.0.name"
    assert problem.remedy == "Did you mean 'data'?"


def test_nothing_stands_twice():
    twice = with_container(
        env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
        ports=[{"containerPort": 1}, {"containerPort": 1, "protocol": "TCP"}],
        volumeMounts=[{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/a/"}],
    )
    twice["spec"]["volumes"] = [{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]
    twice["spec"]["initContainers"] = [{"name": "ray", "image": "busybox:1"}]
    assert paths(twice) == {
        "t.spec.initContainers.0.name",
        f"{CONTAINER}.name",
        *(f"{CONTAINER}.env.{index}.name" for index in (0, 1)),
        *(f"{CONTAINER}.ports.{index}" for index in (0, 1)),
        *(f"{CONTAINER}.volumeMounts.{index}.mountPath" for index in (0, 1)),
        *(f"t.spec.volumes.{index}.name" for index in (0, 1)),
    }
    both = [{"containerPort": 53, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}]
    assert paths(with_container(ports=both)) == set()


@pytest.mark.parametrize(
    ("toleration", "field"),
    [
        ({"key": "a", "operator": "Exist"}, "operator"),
        ({"key": "a", "operator": "Exists", "effect": "NoSchedul"}, "effect"),
        ({"key": "a", "operator": "Exists", "value": "b"}, "value"),
        ({"operator": "Equal", "value": "b"}, "key"),
        ({"key": "-", "operator": "Exists"}, "key"),
        ({"key": "a", "value": "b c"}, "value"),
        ({"key": "a", "operator": "Exists", "tolerationSeconds": 5}, "tolerationSeconds"),
        ({"key": "nvidia.com/gpu", "value": "true"}, "value"),
        ({"key": "aws.amazon.com/neuron", "operator": "Equal", "value": "x"}, "value"),
    ],
)
def test_a_toleration_says_what_it_means(toleration, field):
    assert paths(with_spec(tolerations=[toleration])) == {f"t.spec.tolerations.0.{field}"}


@pytest.mark.parametrize(
    "right", [{"operator": "Exists"}, {"key": "nvidia.com/gpu"}, {"key": "a", "effect": ""}]
)
def test_a_toleration_may_be_short(right):
    assert paths(with_spec(tolerations=[right])) == set()


@pytest.mark.parametrize(
    ("selector", "remedy"),
    [
        (
            {"beta.kubernetes.io/instance-type": "p5"},
            "Did you mean 'node.kubernetes.io/instance-type'?",
        ),
        ({"karpenter.sh/capacityType": "spot"}, "Did you mean 'karpenter.sh/capacity-type'?"),
        ({"karpenter.sh/capacity-type": "SPOT"}, "One of spot, on-demand, reserved."),
        ({"kubernetes.io/arch": "x86"}, "One of amd64, arm64."),
        ({"node-type": "gpu"}, "Select by instance type, zone or node pool."),
    ],
)
def test_nodes_are_selected_by_labels_that_they_have(selector, remedy):
    (problem,) = check_pod(with_spec(nodeSelector=selector), "t")
    assert problem.remedy == remedy
    asked = [{"key": key, "operator": "In", "values": [selector[key]]} for key in selector]
    (problem,) = check_pod(with_spec(affinity=node_terms(asked)), "t")
    assert problem.remedy == remedy


KARPENTER_SPOT = {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"]}
GROUP_SPOT = {"key": "eks.amazonaws.com/capacityType", "operator": "In", "values": ["SPOT"]}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def node_terms(*terms: list[dict[str, object]]) -> dict[str, object]:
    made = {"nodeSelectorTerms": [{"matchExpressions": term} for term in terms]}
    return {"nodeAffinity": {REQUIRED: made}}


def test_no_node_is_karpenters_and_a_managed_groups():
    both = {"karpenter.sh/capacity-type": "spot", "eks.amazonaws.com/capacityType": "SPOT"}
    assert paths(with_spec(nodeSelector=both)) == {"t.spec.nodeSelector"}
    path = f"t.spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms"
    one_term = node_terms([KARPENTER_SPOT, GROUP_SPOT])
    assert paths(with_spec(affinity=one_term)) == {path}
    pool = {"karpenter.sh/nodepool": "gpu"}
    against_pool = with_spec(nodeSelector=pool, affinity=node_terms([GROUP_SPOT]))
    assert paths(against_pool) == {path}


def test_a_node_may_be_karpenters_or_a_managed_groups():
    either = node_terms([KARPENTER_SPOT], [GROUP_SPOT])
    assert paths(with_spec(affinity=either)) == set()
    pool = {"karpenter.sh/nodepool": "gpu"}
    assert paths(with_spec(nodeSelector=pool, affinity=either)) == set()
    neither = [KARPENTER_SPOT | {"operator": "NotIn"}, GROUP_SPOT | {"operator": "NotIn"}]
    assert paths(with_spec(affinity=node_terms(neither))) == set()


def test_pods_spread_over_labels_that_nodes_have():
    rack = {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
    path = "t.spec.topologySpreadConstraints.0"
    assert paths(with_spec(topologySpreadConstraints=[rack])) == {f"{path}.topologyKey"}
    zone = rack | {"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 0}
    assert paths(with_spec(topologySpreadConstraints=[zone])) == {f"{path}.maxSkew"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"terminationGracePeriodSeconds": -1}, "terminationGracePeriodSeconds"),
        ({"restartPolicy": "Sometimes"}, "restartPolicy"),
        ({"restartPolicy": "never"}, "restartPolicy"),
        ({"dnsPolicy": "Cluster"}, "dnsPolicy"),
        ({"serviceAccountName": "Team A"}, "serviceAccountName"),
        ({"nodeName": "ip-10-0-0-1"}, "nodeName"),
        ({"ephemeralContainers": [{"name": "debug"}]}, "ephemeralContainers"),
        ({"tollerations": []}, "tollerations"),
        ({"hostNetwork": "true"}, "hostNetwork"),
        ({"volumes": [{"name": "v"}]}, "volumes.0"),
        ({"volumes": [{"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}]}, "volumes.0"),
        ({"volumes": [{"name": "V", "emptyDir": {}}]}, "volumes.0.name"),
        (
            {"volumes": [{"name": "v", "emptyDir": {"medium": "memory"}}]},
            "volumes.0.emptyDir.medium",
        ),
        ({"volumes": [{"name": "v", "secret": {}}]}, "volumes.0.secret.secretName"),
    ],
)
def test_fields_of_a_pod_are_right(fields, field):
    assert paths(with_spec(**fields)) == {f"t.spec.{field}"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "Ray_1"}, "name"),
        ({"image": ""}, "image"),
        ({"image": " ray:1"}, "image"),
        ({"imagePullPolicy": "Alway"}, "imagePullPolicy"),
        ({"enviroment": []}, "enviroment"),
        ({"env": [{"name": "A", "value": 1}]}, "env.0.value"),
        ({"env": [{"name": "", "value": "1"}]}, "env.0.name"),
        ({"env": [{"name": "A=B", "value": "1"}]}, "env.0.name"),
        ({"env": [{"name": "A", "valueFrom": {}}]}, "env.0.valueFrom"),
        ({"ports": [{"containerPort": 0}]}, "ports.0.containerPort"),
        ({"ports": [{"containerPort": 1, "name": "much-too-long-a-name"}]}, "ports.0.name"),
        ({"ports": [{"containerPort": 1, "protocol": "HTTP"}]}, "ports.0.protocol"),
        ({"lifecycle": {"preStop": {}}}, "lifecycle.preStop"),
        ({"readinessProbe": {"periodSeconds": 5}}, "readinessProbe"),
        ({"livenessProbe": {"exec": {}}}, "livenessProbe.exec.command"),
        ({"securityContext": {"runAsNonRoot": True, "runAsUser": 0}}, "securityContext.runAsUser"),
        (
            {"securityContext": {"privileged": True, "allowPrivilegeEscalation": False}},
            "securityContext.allowPrivilegeEscalation",
        ),
        (
            {"securityContext": {"seccompProfile": {"type": "Localhost"}}},
            "securityContext.seccompProfile",
        ),
    ],
)
def test_fields_of_a_container_are_right(fields, field):
    assert paths(with_container(**fields)) == {f"{CONTAINER}.{field}"}


def test_a_pod_has_containers_with_names_and_images():
    assert paths({"spec": {}}) == {"t.spec.containers"}
    assert paths({"spec": {"containers": [{}]}}) == {f"{CONTAINER}.name", f"{CONTAINER}.image"}


def test_labels_are_labels():
    pod = template()
    pod["metadata"] = {"labels": {"a b": "x", "c": "y z"}, "annotations": {"d/e/f": "any thing"}}
    assert paths(pod) == {
        "t.metadata.labels[a b]",
        "t.metadata.labels.c",
        "t.metadata.annotations[d/e/f]",
    }
