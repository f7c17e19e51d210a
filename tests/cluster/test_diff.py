"""What applying a specification would change, field by field."""

from __future__ import annotations

import base64
import copy
from typing import Any

from eksml.cluster.diff import diff

OURS = "eksml"


def cluster(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": "train", "namespace": "team"},
        "spec": {
            "rayVersion": "2.60.0",
            "headGroupSpec": {
                "rayStartParams": {"num-cpus": "0"},
                "template": {"spec": {"containers": [{"name": "ray-head", "image": "ray:1"}]}},
            },
            "workerGroupSpecs": [
                {"groupName": "gpu", "minReplicas": 1, "maxReplicas": 4, "replicas": 1},
                {"groupName": "cpu", "minReplicas": 0, "maxReplicas": 2, "replicas": 0},
            ],
            **spec,
        },
    }


def owned(item: dict[str, Any], fields: dict[str, Any], manager: str = OURS) -> dict[str, Any]:
    """As a server shows it: with who applied which fields."""
    live = copy.deepcopy(item)
    entries = live["metadata"].setdefault("managedFields", [])
    entries.append({"manager": manager, "operation": "Apply", "fieldsV1": fields})
    return live


WHOLE_LISTS = {"f:spec": {"f:rayVersion": {}, "f:workerGroupSpecs": {}}}


def lines(*args: Any) -> list[str]:
    return [str(change) for change in diff(*args)]


def test_what_is_as_it_should_be_is_no_change() -> None:
    assert diff([cluster()], [owned(cluster(), WHOLE_LISTS)]) == []


def test_what_the_server_and_the_operator_added_is_no_change() -> None:
    live = owned(cluster(), WHOLE_LISTS)
    live["metadata"] |= {"uid": "u", "resourceVersion": "7", "generation": 3, "finalizers": ["x"]}
    live["status"] = {"state": "ready", "desiredWorkerReplicas": 9}
    live["spec"]["headGroupSpec"]["template"]["spec"]["dnsPolicy"] = "ClusterFirst"
    for group in live["spec"]["workerGroupSpecs"]:
        group |= {"numOfHosts": 1, "priority": 0}
    assert diff([cluster()], [live]) == []


def test_a_changed_field_is_named_with_both_values() -> None:
    wanted = cluster()
    wanted["spec"]["workerGroupSpecs"][0]["maxReplicas"] = 8
    wanted["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["image"] = "ray:2"
    changes = diff([wanted], [owned(cluster(), WHOLE_LISTS)])
    assert [(change.path, change.live, change.wanted) for change in changes] == [
        ("spec.headGroupSpec.template.spec.containers[ray-head].image", "ray:1", "ray:2"),
        ("spec.workerGroupSpecs[gpu].maxReplicas", 4, 8),
    ]
    assert str(changes[1]) == "~ RayCluster/train spec.workerGroupSpecs[gpu].maxReplicas: 4 → 8"


def test_the_order_of_named_elements_does_not_matter() -> None:
    live = owned(cluster(), WHOLE_LISTS)
    live["spec"]["workerGroupSpecs"].reverse()
    assert diff([cluster()], [live]) == []


def test_a_group_or_field_that_we_no_longer_state_shall_go() -> None:
    wanted = cluster()
    del wanted["spec"]["workerGroupSpecs"][1]
    del wanted["spec"]["workerGroupSpecs"][0]["replicas"]
    live = cluster()
    live["spec"]["workerGroupSpecs"][0]["idleTimeoutSeconds"] = 60
    told = lines([wanted], [owned(live, WHOLE_LISTS)])
    assert told[0] == "- RayCluster/train spec.workerGroupSpecs[gpu].replicas: 1"
    assert told[1] == "- RayCluster/train spec.workerGroupSpecs[gpu].idleTimeoutSeconds: 60"
    assert told[2].startswith("- RayCluster/train spec.workerGroupSpecs[cpu]: ")


def test_a_field_of_ours_that_is_gone_from_the_specification_shall_go() -> None:
    live = cluster(suspend=True, managedBy="ray.io/kuberay-operator")
    mine = {"f:spec": {"f:suspend": {}}}
    assert lines([cluster()], [owned(live, mine)]) == ["- RayCluster/train spec.suspend: true"]


def test_what_another_manager_owns_and_we_do_not_state_is_not_ours() -> None:
    live = cluster(suspend=True)
    assert diff([cluster()], [owned(live, {"f:spec": {"f:suspend": {}}}, "kueue")]) == []


def test_a_value_that_somebody_else_owns_says_whose_it_is() -> None:
    wanted = cluster(suspend=False)
    live = owned(cluster(suspend=True), {"f:spec": {"f:suspend": {}}}, "kueue")
    (change,) = diff([wanted], [live])
    assert (change.path, change.owner) == ("spec.suspend", "kueue")
    assert str(change).endswith("true → false (owned by kueue)")
    both = owned(live, {"f:spec": {"f:suspend": {}}})
    assert [change.owner for change in diff([wanted], [both])] == [""]


def test_an_element_of_a_list_is_ours_only_if_we_applied_it() -> None:
    live = cluster()
    pod = live["spec"]["headGroupSpec"]["template"]["spec"]
    pod["containers"] += [{"name": "injected", "image": "mesh:1"}, {"name": "old", "image": "x:1"}]

    def containers(*names: str) -> dict[str, Any]:
        of_list = {f'k:{{"name":"{name}"}}': {".": {}, "f:image": {}} for name in names}
        template = {"f:template": {"f:spec": {"f:containers": of_list}}}
        return {"f:spec": {"f:headGroupSpec": template}}

    live = owned(live, containers("ray-head", "old"))
    live = owned(live, containers("injected"), "mesh")
    (gone,) = diff([cluster()], [live])
    assert (gone.path, gone.wanted) == (
        "spec.headGroupSpec.template.spec.containers[old]",
        None,
    )


def test_the_autoscaler_moves_replicas_and_that_is_no_change() -> None:
    wanted = cluster(enableInTreeAutoscaling=True)
    live = cluster(enableInTreeAutoscaling=True)
    live["spec"]["workerGroupSpecs"][0] |= {
        "replicas": 3,
        "scaleStrategy": {"workersToDelete": ["a"]},
    }
    assert diff([wanted], [owned(live, WHOLE_LISTS)]) == []
    del wanted["spec"]["enableInTreeAutoscaling"]
    assert "~ RayCluster/train spec.workerGroupSpecs[gpu].replicas: 3 → 1" in lines(
        [wanted], [owned(live, WHOLE_LISTS)]
    )


def test_amounts_are_compared_as_amounts() -> None:
    def quota(**hard: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "train", "namespace": "team"},
            "spec": {"hard": hard},
        }

    assert diff([quota(cpu="1000m", memory="1024Mi")], [quota(cpu="1", memory="1Gi")]) == []
    assert lines([quota(cpu="2")], [quota(cpu="1")]) == [
        "~ ResourceQuota/train spec.hard.cpu: 1 → 2"
    ]


def test_secrets_are_compared_and_never_shown() -> None:
    def secret(**fields: Any) -> dict[str, Any]:
        metadata = {"name": "train", "namespace": "team"}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **fields}

    live = secret(data={"auth_token": base64.b64encode(b"hunter2").decode()})
    assert diff([secret(stringData={"auth_token": "hunter2"})], [live]) == []
    changes = diff([secret(stringData={"auth_token": "hunter3"})], [live])
    assert [change.path for change in changes] == ["stringData.auth_token"]
    assert "hunter" not in f"{changes} {changes[0]}"
    assert "hunter" not in f"{diff([secret(stringData={'auth_token': 'hunter2'})], [])}"


def test_objects_come_and_go_as_a_whole() -> None:
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "train", "namespace": "team"},
        "spec": {"podSelector": {}},
    }
    assert lines([cluster(), policy], [cluster()]) == ["+ NetworkPolicy/train"]
    assert lines([cluster()], [cluster(), policy]) == ["- NetworkPolicy/train"]
    elsewhere = copy.deepcopy(policy)
    elsewhere["metadata"]["namespace"] = "other"
    assert len(diff([policy], [elsewhere])) == 2


def test_an_empty_list_that_the_server_left_out_is_no_change() -> None:
    wanted = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "train"},
        "spec": {"ingress": []},
    }
    assert diff([wanted], [wanted | {"spec": {}}]) == []
