"""What KubeRay takes and EKS never runs: every object here is broken in a way that was seen."""

from __future__ import annotations

import pytest
from manifests import LEFT_OUT, accepted, changed, group, ray_cluster, ray_job, refusals, template

GROUP = "spec.workerGroupSpecs.0"
SPREAD = f"{GROUP}.template.spec.topologySpreadConstraints"


@pytest.mark.parametrize("device", ["aws.amazon.com/neuron", "aws.amazon.com/neuroncore"])
def test_a_neuron_group_that_is_autoscaled_states_its_cores(device):
    unstated = ray_cluster(group(template=template(**{device: "16"})))
    assert refusals(unstated) == {("rule: sizes for the autoscaler", f"{GROUP}.resources")}
    size = {"CPU": "96", "memory": "400Gi", "neuron_cores": "32"}
    assert accepted(changed(unstated, f"{GROUP}.resources", size))
    misspelt = changed(unstated, f"{GROUP}.resources", {"Neuron_Cores": "32"})
    assert ("rule 4: resources", f"{GROUP}.resources.Neuron_Cores") in refusals(misspelt)
    by_param = {"resources": '"{\\"neuron_cores\\": 32}"'}
    assert accepted(changed(unstated, f"{GROUP}.rayStartParams", by_param))
    assert accepted(changed(unstated, "spec.enableInTreeAutoscaling", False))


@pytest.mark.parametrize("where", ["spec.headGroupSpec", GROUP])
def test_a_group_that_is_autoscaled_says_its_cpus(where):
    limits = f"{where}.template.spec.containers.0.resources.limits"
    unsized = changed(ray_cluster(), limits, {"memory": "8Gi"})
    unsized = changed(unsized, f"{where}.rayStartParams", {})
    path = f"{where}.template.spec.containers.0.resources"
    assert refusals(unsized) == {("rule: sizes for the autoscaler", path)}
    assert accepted(changed(unsized, f"{where}.rayStartParams", {"num-cpus": "0"}))
    assert accepted(changed(unsized, f"{where}.resources", {"CPU": "4"}))
    assert accepted(changed(unsized, "spec.enableInTreeAutoscaling", False))


def spread(**labels: str) -> list[dict[str, object]]:
    return [
        {
            "maxSkew": 1,
            "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": labels},
        }
    ]


@pytest.mark.parametrize(
    "labels",
    [
        {"ray.io/group": "workers"},
        {"ray.io/cluster": "team-a"},
        {"ray.io/node-type": "worker"},
        {"ray.io/is-ray-node": "yes"},
    ],
)
def test_pods_spread_by_the_labels_that_the_operator_sets(labels):
    assert accepted(changed(ray_cluster(), SPREAD, spread(**labels)))


@pytest.mark.parametrize(
    "labels",
    [
        {"app": "train"},
        {"ray.io/group": "worker"},
        {"ray.io/cluster": "team-b"},
        {"ray.io/node-type": "head"},
    ],
)
def test_pods_do_not_spread_by_labels_that_nobody_sets(labels):
    (key,) = labels
    step = f"[{key}]" if "/" in key else f".{key}"
    path = f"{SPREAD}.0.labelSelector.matchLabels{step}"
    broken = changed(ray_cluster(), SPREAD, spread(**labels))
    assert refusals(broken) == {("rule: pod selectors", path)}
    labelled = changed(broken, f"{GROUP}.template.metadata", {"labels": labels})
    assert accepted(labelled) == (key == "app")


def test_the_name_of_a_jobs_cluster_is_not_known_beforehand():
    where = f"spec.rayClusterSpec.{SPREAD.removeprefix('spec.')}"
    named = changed(ray_job(), where, spread(**{"ray.io/cluster": "train"}))
    path = f"{where}.0.labelSelector.matchLabels[ray.io/cluster]"
    assert refusals(named) == {("rule: pod selectors", path)}


def test_a_spread_without_a_selector_counts_no_pod():
    blind = spread()
    del blind[0]["labelSelector"]
    broken = changed(ray_cluster(), SPREAD, blind)
    assert refusals(broken) == {("rule: pod selectors", f"{SPREAD}.0.labelSelector")}


@pytest.mark.parametrize(
    ("field", "value", "gate"),
    [
        ("networkPolicy", {"mode": "DenyAll"}, "RayClusterNetworkPolicy"),
        ("tlsOptions", {"enabled": True}, "RayClusterMTLS"),
        (
            "historyServerOptions",
            {"collectorOptions": {"image": "collector:1"}},
            "RayClusterHistoryServer",
        ),
    ],
)
def test_a_feature_needs_its_gate(field, value, gate):
    gated = ray_cluster(**{field: value})
    assert accepted(gated, [gate])
    assert refusals(gated) == {("rule: feature gates", f"spec.{field}")}


def test_a_network_policy_has_rules_for_what_it_denies_and_for_groups_that_exist():
    gate = ["RayClusterNetworkPolicy"]
    policy = {
        "mode": "DenyAllIngress",
        "head": {"ingressRules": [{"ports": [{"port": 8265, "protocol": "TCP"}]}]},
        "workerGroups": [{"groupName": "workers", "ingressRules": []}],
    }
    right = ray_cluster(networkPolicy=policy)
    assert accepted(right, gate)
    useless = changed(right, "spec.networkPolicy.head.egressRules", [{}])
    assert refusals(useless, gate) == {
        ("rule: network policy", "spec.networkPolicy.head.egressRules")
    }
    nobody = changed(right, "spec.networkPolicy.workerGroups.0.groupName", "gpu")
    assert refusals(nobody, gate) == {
        ("rule: network policy", "spec.networkPolicy.workerGroups.0.groupName")
    }


def test_the_autoscalers_container_is_held_to_the_rules_of_a_container():
    options = {
        "version": "v2",
        "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
        "resources": {"limits": {"cpu": "half"}, "requests": {"memory": "1Gi"}},
        "volumeMounts": [{"name": "certs", "mountPath": "/certs"}],
    }
    broken = changed(ray_cluster(), "spec.autoscalerOptions", options)
    name, where = "rule: the operator's containers", "spec.autoscalerOptions"
    assert refusals(broken) == {
        (name, f"{where}.env.0.name"),
        (name, f"{where}.env.1.name"),
        ("rule: fields", f"{where}.resources.limits.cpu"),
        (name, f"{where}.volumeMounts.0.name"),
    }


def test_unknown_fields_are_told_with_the_one_that_was_meant():
    typos = changed(ray_cluster(), f"{GROUP}.minReplcas", 1)
    typos = changed(typos, "spec.enableInTreeAutoScaling", True)
    assert refusals(typos) == {
        ("rule: fields", f"{GROUP}.minReplcas"),
        ("rule: fields", "spec.enableInTreeAutoScaling"),
    }
    old = changed(ray_cluster(), "apiVersion", "ray.io/v1alpha1")
    assert refusals(old) == {("rule: fields", "apiVersion")}
    headless = changed(ray_cluster(), "spec.headGroupSpec", LEFT_OUT)
    assert ("rule: fields", "spec.headGroupSpec") in refusals(headless)
