"""One sentence says why a cluster waits. The objects are as an API server gives them."""

from __future__ import annotations

from typing import Any

import pytest

from eksml.backends.why import Kind, Reason, State, why

Object = dict[str, Any]

CLUSTER: Object = {
    "kind": "RayCluster",
    "metadata": {"name": "train", "namespace": "team"},
    "spec": {},
    "status": {"desiredWorkerReplicas": 1, "conditions": []},
}


def pod(name: str = "train-gpu-worker-x7k2p", group: str = "gpu", **status: Any) -> Object:
    node_type = "head" if group == "headgroup" else "worker"
    spec = status.pop("spec", {"nodeName": "ip-10-0-1-7.ec2.internal"})
    return {
        "metadata": {
            "name": name,
            "labels": {"ray.io/group": group, "ray.io/node-type": node_type},
        },
        "spec": spec,
        "status": {"phase": "Pending"} | status,
    }


def ready(name: str, group: str = "gpu") -> Object:
    return pod(name, group, phase="Running", conditions=[{"type": "Ready", "status": "True"}])


def unscheduled(message: str, **spec: Any) -> Object:
    told = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
    }
    return pod(conditions=[told], spec=spec)


def waiting(reason: str, message: str = "", **fields: Any) -> Object:
    state = {"waiting": {"reason": reason, "message": message}}
    status = {"name": "ray-worker", "image": "rayproject/ray:2.60.0-py311-gpu", "state": state}
    return pod(containerStatuses=[status | fields])


def event(about: Object | tuple[str, str], reason: str, message: str, **fields: Any) -> Object:
    kind, name = about if isinstance(about, tuple) else ("Pod", about["metadata"]["name"])
    involved = {"kind": kind, "name": name}
    return {
        "involvedObject": involved,
        "reason": reason,
        "message": message,
        "type": "Warning",
        "lastTimestamp": "2026-11-24T12:00:00Z",
    } | fields


def of(*pods: Object, **known: Any) -> Reason:
    return why(State(cluster=CLUSTER, pods=pods, **known))


NO_GPU = (
    "0/6 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) didn't match Pod's node "
    "affinity/selector, 3 node(s) had untolerated taint {nvidia.com/gpu: }. preemption: 0/6 nodes "
    "are available: 1 No preemption victims found for incoming pod, 5 Preemption is not helpful."
)


# The scheduler


def test_the_schedulers_own_words_are_said_without_its_talk_of_preemption() -> None:
    reason = of(unscheduled(NO_GPU))
    assert reason.kind == "unschedulable"
    assert reason.sentence == (
        "Pod train-gpu-worker-x7k2p of group gpu cannot be scheduled, since no node has enough "
        "nvidia.com/gpu left: «0/6 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) "
        "didn't match Pod's node affinity/selector, 3 node(s) had untolerated taint "
        "{nvidia.com/gpu: }»."
    )
    assert "NVIDIA device plugin" in reason.remedy


@pytest.mark.parametrize(
    ("refusal", "rule", "kind"),
    [
        ("3 Insufficient cpu", "no node has enough cpu left", "unschedulable"),
        ("3 Insufficient vpc.amazonaws.com/efa", "enough vpc.amazonaws.com/efa", "unschedulable"),
        ("3 node(s) had untolerated taint {team: ml}", "the taint team: ml", "unschedulable"),
        ("3 node(s) had untolerated taint(s)", "does not tolerate the taint of", "unschedulable"),
        ("3 node(s) didn't match Pod's node affinity/selector", "has the labels", "unschedulable"),
        ("3 node(s) didn't match pod topology spread constraints", "spread", "unschedulable"),
        ("3 node(s) didn't match pod anti-affinity rules", "another pod", "unschedulable"),
        ("3 node(s) were unschedulable", "cordoned", "unschedulable"),
        ("3 Too many pods", "hold all the pods", "unschedulable"),
        ("3 node(s) had volume node affinity conflict", "another zone", "volume"),
        ('persistentvolumeclaim "fsx" not found', "volume claim fsx does not exist", "volume"),
        ("pod has unbound immediate PersistentVolumeClaims", "is not bound", "volume"),
        ("3 node(s) said something new", "something new", "unschedulable"),
    ],
)
def test_each_rule_of_the_scheduler_is_named(refusal: str, rule: str, kind: Kind) -> None:
    reason = of(unscheduled(f"0/3 nodes are available: {refusal}."))
    assert rule in reason.sentence
    assert refusal in reason.sentence
    assert reason.kind == kind


def test_a_cluster_without_nodes_is_told_as_such() -> None:
    assert "has no nodes" in of(unscheduled("no nodes available to schedule pods")).sentence


def test_pods_that_share_a_cause_are_counted_in_one_sentence() -> None:
    twins = [unscheduled(NO_GPU) for _ in range(3)]
    for number, twin in enumerate(twins):
        twin["metadata"]["name"] = f"train-gpu-worker-{number}"
    assert of(*twins).sentence.startswith(
        "Pod train-gpu-worker-0, one of 3 of group gpu in this state, cannot be scheduled"
    )


# Karpenter and node groups


def claim(name: str, *conditions: Object, pool: str = "gpu", devices: str = "nvidia.com/gpu"):
    instance = {"key": "node.kubernetes.io/instance-type", "values": ["p5.48xlarge"]}
    return {
        "metadata": {"name": name, "labels": {"karpenter.sh/nodepool": pool}},
        "spec": {"requirements": [instance], "resources": {"requests": {devices: "8"}}},
        "status": {"conditions": list(conditions)},
    }


def told(kind: str, status: str, reason: str = "", message: str = "") -> Object:
    return {"type": kind, "status": status, "reason": reason, "message": message}


GPU_POD = {
    "containers": [{"resources": {"limits": {"nvidia.com/gpu": "8"}}}],
    "nodeSelector": {"karpenter.sh/nodepool": "gpu"},
}
NO_CAPACITY = (
    "creating instance, insufficient capacity, with fleet error(s), InsufficientInstanceCapacity: "
    "We currently do not have sufficient p5.48xlarge capacity in the Availability Zone you "
    "requested (us-east-1a)."
)
OVER_QUOTA = (
    "creating instance, with fleet error(s), VcpuLimitExceeded: You have requested more vCPU "
    "capacity than your current vCPU limit of 192 allows for the instance bucket that the "
    "specified instance type belongs to (p5.48xlarge)."
)


@pytest.mark.parametrize(
    ("message", "kind", "sentence"),
    [
        (NO_CAPACITY, "capacity", "EC2 has no p5.48xlarge to give in us-east-1a"),
        (OVER_QUOTA, "quota", "the account's EC2 quota does not allow p5.48xlarge"),
        ("UnauthorizedOperation: not allowed", "node", "may not start such instances"),
        ("InsufficientFreeAddressesInSubnet: none in us-east-1b", "network", "in us-east-1b"),
        ("ReservationCapacityExceeded: p5.48xlarge", "capacity", "the capacity reservation has no"),
    ],
)
def test_ec2s_refusal_of_a_node_is_the_cause(message: str, kind: Kind, sentence: str) -> None:
    failed = claim("gpu-abcde", told("Launched", "Unknown", "LaunchFailed", message))
    reason = of(unscheduled(NO_GPU, **GPU_POD), claims=[failed])
    assert reason.kind == kind
    assert sentence in reason.sentence
    assert reason.remedy


def test_a_claim_that_is_gone_again_has_left_its_event() -> None:
    kept = unscheduled(NO_GPU, **GPU_POD)
    events = [
        event(kept, "Nominated", "Pod should schedule on: nodeclaim/gpu-abcde", type="Normal"),
        event(("NodeClaim", "gpu-abcde"), "InsufficientCapacityError", NO_CAPACITY),
    ]
    assert of(kept, events=events).kind == "capacity"


def test_the_troubles_of_other_peoples_nodes_are_not_ours() -> None:
    failure = told("Launched", "Unknown", "LaunchFailed", NO_CAPACITY)
    others = [claim("other-abcde", failure, pool="other"), claim("gpu-fghij", devices="cpu")]
    assert of(unscheduled(NO_GPU, **GPU_POD), claims=others).kind == "unschedulable"


def test_a_node_on_its_way_is_no_trouble() -> None:
    launched = told("Launched", "True")
    coming = claim("gpu-abcde", launched, told("Registered", "Unknown"))
    reason = of(unscheduled(NO_GPU, **GPU_POD), claims=[coming])
    assert reason.kind == "starting"
    assert "the p5.48xlarge node that Karpenter chose (gpu-abcde), which has started and" in str(
        reason
    )


def test_karpenters_verdict_and_a_full_pool_are_told() -> None:
    kept = unscheduled(NO_GPU, **GPU_POD)
    from_karpenter = {"source": {"component": "karpenter"}}
    said = 'incompatible with nodepool "gpu", no instance type satisfied resources'
    reason = of(kept, events=[event(kept, "FailedScheduling", said, **from_karpenter)])
    assert (reason.kind, said in reason.sentence) == ("unschedulable", True)
    said = 'all available instance types exceed limits for nodepool: "gpu"'
    reason = of(kept, events=[event(kept, "FailedScheduling", said, **from_karpenter)])
    assert (reason.kind, "NodePool is full" in reason.sentence) == ("quota", True)


def test_a_pool_whose_class_is_not_ready_is_the_cause() -> None:
    not_ready = told("Ready", "False", "NodeClassNotReady", "NodeClass.Ready=False")
    pool = {"metadata": {"name": "gpu"}, "status": {"conditions": [not_ready]}}
    reason = of(unscheduled(NO_GPU, **GPU_POD), pools=[pool])
    assert reason.kind == "node"
    assert "NodePool gpu is not ready" in reason.sentence


def test_a_managed_node_group_that_gets_no_instances_is_the_cause() -> None:
    issue = {"code": "AsgInstanceLaunchFailures", "message": NO_CAPACITY}
    group = {"nodegroupName": "gpu", "health": {"issues": [issue]}}
    reason = of(unscheduled(NO_GPU), nodegroups=[group])
    assert (reason.kind, "us-east-1a" in reason.sentence) == ("capacity", True)
    issue = {"code": "NodeCreationFailure", "message": "Instances failed to join"}
    group = {"nodegroupName": "gpu", "health": {"issues": [issue]}}
    assert "node group gpu is unwell" in of(unscheduled(NO_GPU), nodegroups=[group]).sentence


def test_what_the_cluster_autoscaler_does_is_told() -> None:
    kept = unscheduled(NO_GPU)
    full = event(
        kept, "NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached"
    )
    assert of(kept, events=[full]).kind == "quota"
    asked = event(kept, "TriggeredScaleUp", "pod triggered scale-up: [{gpu 0->1 (max: 4)}]")
    assert of(kept, events=[asked]).kind == "starting"


# Containers


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("rpc error: rayproject/ray:9: not found", "Does the tag exist"),
        ("pull access denied, authorization failed: 403 Forbidden", "ecr:BatchGetImage"),
        ("429 Too Many Requests - toomanyrequests: rate limit", "pull-through cache"),
        ("no match for platform in manifest", "architecture"),
        ("dial tcp 10.0.0.1:443: i/o timeout", "VPC endpoints"),
    ],
)
def test_an_image_that_cannot_be_pulled_is_told_with_the_registrys_words(
    said: str, remedy: str
) -> None:
    reason = of(waiting("ErrImagePull", said))
    assert reason.kind == "image"
    assert f"cannot pull its image rayproject/ray:2.60.0-py311-gpu: «{said}»" in reason.sentence
    assert remedy in reason.remedy


def test_a_backed_off_pull_is_told_by_the_event_before_it() -> None:
    kept = waiting("ImagePullBackOff", 'Back-off pulling image "rayproject/ray:2.60.0-py311-gpu"')
    failed = event(kept, "Failed", 'Failed to pull image "rayproject/ray": not found')
    assert "Failed to pull image" in of(kept, events=[failed]).sentence


def test_a_crash_is_told_with_its_last_log_lines() -> None:
    ended = {"terminated": {"exitCode": 1, "reason": "Error"}}
    kept = waiting("CrashLoopBackOff", "back-off", lastState=ended, restartCount=4)
    lines = ["starting", "Traceback (most recent call last):", "", "ImportError: no module torch"]
    reason = of(kept, logs={kept["metadata"]["name"]: lines})
    assert reason.kind == "crash"
    assert "ended with exit code 1 (restarted 4 times)" in reason.sentence
    assert "ImportError: no module torch»." in reason.sentence
    assert "kubectl logs train-gpu-worker-x7k2p --previous" in reason.remedy


def test_a_container_killed_for_its_memory_is_told_as_that() -> None:
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    reason = of(waiting("CrashLoopBackOff", lastState=ended))
    assert (reason.kind, "ran out of memory" in reason.sentence) == ("out-of-memory", True)


def test_a_missing_secret_is_told() -> None:
    reason = of(waiting("CreateContainerConfigError", 'secret "train" not found'))
    assert (reason.kind, 'secret "train" not found' in reason.sentence) == ("config", True)


def test_an_init_container_that_fails_is_named() -> None:
    failed = {"name": "fetch-weights", "state": {"terminated": {"exitCode": 3}}}
    reason = of(pod(initContainerStatuses=[failed]))
    assert reason.kind == "init"
    assert "is held by its init container fetch-weights, which ended with exit code 3" in str(
        reason
    )


def test_a_worker_that_waits_for_the_head_yields_to_what_keeps_the_head() -> None:
    waits = pod(initContainerStatuses=[{"name": "wait-gcs-ready", "state": {"running": {}}}])
    reason = of(waits)
    assert (reason.kind, "port 6379" in reason.remedy) == ("init", True)
    head = waiting("ErrImagePull", "not found")
    head["metadata"] = {"name": "train-head", "labels": {"ray.io/node-type": "head"}}
    assert of(waits, head).sentence.startswith("The head's pod train-head cannot pull its image")


@pytest.mark.parametrize(
    ("reason", "said", "kind"),
    [
        ("FailedMount", 'MountVolume.SetUp failed for volume "fsx": timed out', "volume"),
        ("FailedCreatePodSandBox", "failed to assign an IP address to container", "network"),
        ("Unhealthy", "Readiness probe failed: timeout", "unready"),
    ],
)
def test_what_the_kubelet_reports_is_told(reason: str, said: str, kind: Kind) -> None:
    kept = pod()
    found = of(kept, events=[event(kept, reason, said)])
    assert (found.kind, said in found.sentence) == (kind, True)


def test_the_latest_event_counts() -> None:
    kept = pod()
    events = [
        event(kept, "FailedMount", "old", lastTimestamp="2026-11-24T11:00:00Z"),
        event(kept, "Unhealthy", "new", lastTimestamp=None, eventTime="2026-11-24T12:00:00.1Z"),
    ]
    assert of(kept, events=events).kind == "unready"


def test_an_evicted_pod_says_who_put_it_off() -> None:
    disrupted = told("DisruptionTarget", "True", "EvictionByEvictionAPI", "Eviction API: evicting")
    assert of(pod(phase="Failed", conditions=[disrupted])).kind == "evicted"
    low = pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    assert "low on resource: memory" in of(low).sentence


def test_what_is_broken_comes_before_what_only_takes_time() -> None:
    starting, broken = pod("a-starts"), waiting("ErrImagePull", "not found")
    assert of(starting, broken).kind == "image"


# The operator, admission and queues


def refused_by_the_operator(message: str) -> Reason:
    complaint = event(("RayCluster", "train"), "InvalidRayClusterSpec", message)
    return why(State(cluster={**CLUSTER, "status": {}}, events=[complaint]))


def test_a_specification_that_the_operator_refuses_is_told() -> None:
    reason = refused_by_the_operator("The RayCluster spec is invalid: worker group names twice")
    assert (reason.kind, "worker group names twice" in reason.sentence) == ("refused", True)
    assert "eksml check" in reason.remedy


def test_a_feature_gate_that_is_off_is_named() -> None:
    reason = refused_by_the_operator(
        "networkPolicy requires the RayClusterNetworkPolicy feature gate to be enabled"
    )
    assert reason.kind == "gate-off"
    assert "--feature-gates=RayClusterNetworkPolicy=true" in reason.remedy


def test_a_ray_job_that_fails_validation_is_told_by_its_message() -> None:
    status = {"jobDeploymentStatus": "ValidationFailed", "message": "backoffLimit must be positive"}
    job = {"kind": "RayJob", "metadata": {"name": "nightly"}, "spec": {}, "status": status}
    reason = why(State(owner=job))
    assert (
        reason.sentence == "The operator refuses RayJob nightly: «backoffLimit must be positive»."
    )


def test_an_operator_that_says_nothing_is_told_after_a_minute() -> None:
    silent = {**CLUSTER, "status": {}}
    assert why(State(cluster=silent, waited_s=5)).kind == "starting"
    assert why(State(cluster=silent, waited_s=90)).kind == "operator"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ('pods "train-head" is forbidden: exceeded quota: team, requested: cpu=8', "quota"),
        ('pods "train-head" is forbidden: violates PodSecurity "restricted:latest"', "forbidden"),
        (
            'error looking up service account team/train: serviceaccount "train" not found',
            "forbidden",
        ),
        ("no PriorityClass with name gold was found", "forbidden"),
        ('admission webhook "policy.example" denied the request: no', "forbidden"),
        ("the server could not find the requested resource", "operator"),
    ],
)
def test_a_pod_that_the_api_server_refuses_is_told(said: str, kind: Kind) -> None:
    failure = told("ReplicaFailure", "True", "FailedCreateWorkerPod", said)
    by_condition = why(State(cluster={**CLUSTER, "status": {"conditions": [failure]}}))
    complaint = event(("RayCluster", "train"), "FailedToCreateWorkerPod", said)
    by_event = why(State(cluster=CLUSTER, events=[complaint]))
    assert by_condition == by_event
    assert (by_condition.kind, said in by_condition.sentence) == (kind, True)


def test_a_refusal_that_has_passed_is_not_told() -> None:
    events = [
        event(("RayCluster", "train"), "FailedToCreateWorkerPod", "exceeded quota"),
        event(("RayCluster", "train"), "CreatedWorkerPod", "made", lastTimestamp="2026-11-24T13"),
    ]
    assert of(ready("train-head", "headgroup"), ready("w"), events=events).kind == "ready"


def workload(*conditions: Object, **spec: Any) -> Object:
    return {
        "metadata": {"name": "raycluster-train-1a2b3"},
        "spec": {"queueName": "ml"} | spec,
        "status": {"conditions": list(conditions)},
    }


def test_a_cluster_in_kueues_queue_is_told_with_kueues_words() -> None:
    said = (
        "couldn't assign flavors to pod set gpu: insufficient unused quota for nvidia.com/gpu in "
        "flavor h100, 8 more needed"
    )
    reason = of(workloads=[workload(told("QuotaReserved", "False", "Pending", said))])
    assert reason.kind == "queued"
    assert reason.sentence == f"Waits in Kueue's queue ml: «{said}»."


def test_a_queue_that_does_not_exist_is_told() -> None:
    said = "LocalQueue ml doesn't exist"
    reason = of(workloads=[workload(told("QuotaReserved", "False", "Inadmissible", said))])
    assert "Create or resume the queue" in reason.remedy


def test_a_deactivated_workload_is_told() -> None:
    evicted = told("Evicted", "True", "PodsReadyTimeout", "Exceeded the PodsReady timeout")
    reason = of(workloads=[workload(evicted, active=False)])
    assert "deactivated" in reason.sentence
    assert "Exceeded the PodsReady timeout" in reason.sentence


def test_an_admitted_workload_is_not_the_cause() -> None:
    admitted = workload(told("QuotaReserved", "True"), told("Admitted", "True"))
    assert of(unscheduled(NO_GPU), workloads=[admitted]).kind == "unschedulable"


def test_a_suspended_cluster_says_who_waits() -> None:
    labels = {"kueue.x-k8s.io/queue-name": "ml"}
    suspended = {**CLUSTER, "spec": {"suspend": True}}
    assert why(State(cluster=suspended)).kind == "suspended"
    queued = {**suspended, "metadata": {"name": "train", "labels": labels}}
    assert why(State(cluster=queued)).kind == "queued"


def test_a_pod_behind_kueues_gate_is_queued() -> None:
    gated = told("PodScheduled", "False", "SchedulingGated", "Scheduling is blocked")
    gates = [{"name": "kueue.x-k8s.io/admission"}]
    reason = of(pod(conditions=[gated], spec={"schedulingGates": gates}))
    assert (reason.kind, "waits for Kueue" in reason.sentence) == ("queued", True)


def test_nothing_wrong_is_starting_and_then_ready() -> None:
    assert of().sentence == "The operator has made no pods yet."
    assert of(ready("train-head", "headgroup")).sentence == "0 of 1 workers are there so far."
    reason = of(ready("train-head", "headgroup"), ready("w"))
    assert reason == Reason("All 2 pods are ready.", "", "ready")
