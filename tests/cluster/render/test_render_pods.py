"""Pods of a Ray cluster: what they ask for, who they are, how they go."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from rendering import NEURON_IMAGE, cluster_spec, container, pod, worker

from eksml import Cluster, cpu, gpu, neuron
from eksml.cluster.groups import WorkerGroup
from eksml.cluster.sizing import resolve


def test_a_pod_asks_for_what_its_instance_can_allocate() -> None:
    group = gpu("p5.48xlarge", efa=True, zones=("us-east-1a",))
    resources = container(group)["resources"]
    assert resources["requests"] == resolve(group).requests()
    assert resources["requests"]["nvidia.com/gpu"] == "8"
    assert resources["requests"]["vpc.amazonaws.com/efa"] == "32"
    assert resources["requests"]["hugepages-2Mi"] == "5120Mi"


def test_limits_equal_requests_but_cpu_is_not_throttled() -> None:
    resources = container(gpu("p5.48xlarge", efa=True, scratch="1Ti"))["resources"]
    requests = resources["requests"]
    unlimited = {name: requests.pop(name) for name in ("cpu", "ephemeral-storage")}
    assert resources["limits"] == requests
    assert unlimited["ephemeral-storage"] == "1048576Mi"


def test_what_is_large_for_a_while_lies_on_scratch_and_rays_own_files_do_not() -> None:
    def variables(group: WorkerGroup) -> dict[str, str]:
        return {each["name"]: each.get("value", "") for each in container(group)["env"]}

    with_scratch = variables(gpu("g6.12xlarge", scratch="1Ti", env={"HF_HOME": "/mnt/hub"}))
    assert with_scratch["TMPDIR"] == "/mnt/scratch"
    assert with_scratch["EKSML_HOME"].startswith("/mnt/scratch/")
    assert with_scratch["RAY_TMPDIR"] == "/tmp"
    assert with_scratch["HF_HOME"] == "/mnt/hub", "what a user says stands over it"
    assert not {"TMPDIR", "RAY_TMPDIR", "EKSML_HOME"} & variables(gpu("g6.12xlarge")).keys()


def test_shares_of_a_machine_are_equal() -> None:
    whole, quarter = (
        container(gpu("g6.12xlarge", pods_per_node=pods))["resources"]["requests"]
        for pods in (1, 4)
    )
    assert (whole["nvidia.com/gpu"], quarter["nvidia.com/gpu"]) == ("4", "1")
    assert int(quarter["memory"].removesuffix("Mi")) * 4 <= int(whole["memory"].removesuffix("Mi"))


def test_a_neuron_group_says_its_cores_so_that_it_scales_from_zero() -> None:
    group = worker(neuron("trn1.32xlarge", nodes=(0, 2), image=NEURON_IMAGE))
    assert group["resources"]["neuron_cores"] == "32"
    assert {"CPU", "memory"} <= group["resources"].keys()
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["aws.amazon.com/neuron"] == "16"
    assert "aws.amazon.com/neuroncore" not in limits


def test_ray_gives_out_whole_cpus_and_less_memory_than_the_pod_has() -> None:
    group = worker(gpu("g6.12xlarge", resources={"disk": 2.0, "licence": 0.5}))
    memory = group["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    ray = group["resources"]
    store = int(group["rayStartParams"]["object-store-memory"])
    assert ray["CPU"] == "47"
    assert ray["GPU"] == "4"
    assert int(ray["memory"]) + store == int(memory.removesuffix("Mi")) * 2**20
    assert (ray["disk"], ray["licence"]) == ("2", "0.5")


def test_no_resource_is_said_in_two_places() -> None:
    said = {"num-cpus", "num-gpus", "memory", "resources", "labels"}
    for group in (cpu(cpus=2), gpu("g6.12xlarge"), neuron("inf2.24xlarge", image=NEURON_IMAGE)):
        assert not said & worker(group)["rayStartParams"].keys()


def test_ray_sees_group_market_accelerator_and_a_single_zone() -> None:
    group = gpu("g6.12xlarge", market="spot", zones=("us-east-1b",), labels={"team": "vision"})
    assert worker(group)["labels"] == {
        "team": "vision",
        "ray.io/node-group": "gpu",
        "ray.io/market-type": "spot",
        "ray.io/accelerator-type": "L4",
        "ray.io/availability-zone": "us-east-1b",
    }


def test_ray_learns_the_zone_from_the_pod_where_the_scheduler_chooses_it() -> None:
    chosen = container(cpu("m7i.4xlarge"))["env"]
    said = container(cpu("m7i.4xlarge", zones=("us-east-1a",)))["env"]
    assert (
        "topology.kubernetes.io/zone"
        in _named(chosen)["RAY_NODE_ZONE"]["valueFrom"]["fieldRef"]["fieldPath"]
    )
    assert "RAY_NODE_ZONE" not in _named(said)


def test_pods_obey_the_restricted_standard() -> None:
    spec = cluster_spec(gpu("g6.12xlarge", nodes=(0, 2)))
    heads, workers = spec["headGroupSpec"]["template"], spec["workerGroupSpecs"][0]["template"]
    for template in (heads, workers):
        security = template["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == 1000
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    for one in (
        heads["spec"]["containers"][0],
        workers["spec"]["containers"][0],
        spec["autoscalerOptions"],
    ):
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }


def test_efa_needs_no_capability_that_restricted_forbids() -> None:
    security = container(gpu("p5.48xlarge", efa=True))["securityContext"]
    assert "add" not in security["capabilities"]


def test_the_restricted_standard_can_be_left() -> None:
    spec = cluster_spec(cpu(nodes=(0, 2)), security={"restricted": False})
    assert "securityContext" not in str(spec)


def test_only_a_head_that_scales_may_speak_to_kubernetes() -> None:
    fixed, scaled = cluster_spec(cpu(nodes=2)), cluster_spec(cpu(nodes=(0, 2)))
    tokens = [
        spec["headGroupSpec"]["template"]["spec"]["automountServiceAccountToken"]
        for spec in (fixed, scaled)
    ]
    assert tokens == [False, True]
    assert pod(cpu(nodes=(0, 2)))["automountServiceAccountToken"] is False


def test_all_pods_have_the_service_account() -> None:
    spec = cluster_spec(cpu(), identity={"service_account": "trainer"})
    every = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    assert {one["template"]["spec"]["serviceAccountName"] for one in every} == {"trainer"}


def test_rays_workers_are_no_less_important_than_others_on_the_node() -> None:
    spec = cluster_spec(gpu("g6.12xlarge"), cpu(env={"RAY_worker_niceness": "5"}))
    first, second = (one["template"]["spec"]["containers"][0] for one in spec["workerGroupSpecs"])
    head = spec["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert _named(head["env"])["RAY_worker_niceness"]["value"] == "0"
    assert _named(first["env"])["RAY_worker_niceness"]["value"] == "0"
    assert _named(second["env"])["RAY_worker_niceness"]["value"] == "5"


def test_workers_drain_before_they_go_and_have_the_time_for_it() -> None:
    drained = pod(gpu("g6.12xlarge", market="spot"), notice_s=90)
    (script,) = drained["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][2:]
    assert "ray drain-node" in script
    assert "--deadline-remaining-seconds 90" in script
    assert drained["terminationGracePeriodSeconds"] > 90
    environment = _named(drained["containers"][0]["env"])
    assert environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]["value"] == "90"


@pytest.mark.parametrize(
    ("answer", "raylet_s", "wanted", "longest_s"),
    [
        pytest.param(0, 1, 0, 20, id="waits for the raylet to end, and no longer"),
        pytest.param(0, 99, 0, 20, id="gives up at the end of the notice"),
        pytest.param(1, 99, 1, 2, id="does not wait where no head took the order"),
    ],
)
def test_the_drain_script(
    tmp_path: Path, answer: int, raylet_s: int, wanted: int, longest_s: int
) -> None:
    """Run for real, with ``ray`` and ``pgrep`` replaced by scripts."""
    ends = time.time() + raylet_s
    _script(tmp_path / "ray", f'echo "$@" > {tmp_path}/told; exit {answer}')
    _script(tmp_path / "pgrep", f"[ $(date +%s) -lt {int(ends)} ]")
    command = container(cpu(), notice_s=2)["lifecycle"]["preStop"]["exec"]["command"]
    path = f"{tmp_path}:{os.environ['PATH']}"
    began = time.monotonic()
    done = subprocess.run(command, env={"PATH": path}, timeout=60, check=False)
    assert done.returncode == wanted
    assert time.monotonic() - began < longest_s
    told = (tmp_path / "told").read_text()
    assert told.startswith("drain-node --reason DRAIN_NODE_REASON_PREEMPTION")
    assert told.endswith("The pod is being deleted. --deadline-remaining-seconds 2\n")


@pytest.mark.parametrize(
    ("group", "cluster", "protected"),
    [
        (gpu("g6.12xlarge"), {}, True),
        (gpu("g6.12xlarge"), {"protected": False}, False),
        (gpu("g6.12xlarge", protected=False), {}, False),
        (gpu("g6.12xlarge", protected=True), {"protected": False}, True),
        # Karpenter would not evict it when the instance is reclaimed, so that it could not drain
        (gpu("g6.12xlarge", market="spot"), {}, False),
    ],
)
def test_karpenter_leaves_protected_pods_alone(
    group: Any, cluster: dict[str, Any], protected: bool
) -> None:
    spec = cluster_spec(group, **cluster)
    kept = {"karpenter.sh/do-not-disrupt": "true"}
    assert (_annotations(spec["workerGroupSpecs"][0]) == kept) is protected
    assert (_annotations(spec["headGroupSpec"]) == kept) is cluster.get("protected", True)


def test_environment_of_the_group_goes_over_the_clusters() -> None:
    group = gpu("p5.48xlarge", efa=True, env={"A": "group", "FI_PROVIDER": "tcp"})
    found = _named(container(group, env={"A": "cluster", "B": "cluster"})["env"])
    assert (found["A"]["value"], found["B"]["value"]) == ("group", "cluster")
    assert found["FI_PROVIDER"]["value"] == "tcp"


def test_pods_know_their_region() -> None:
    spec = cluster_spec(cpu(), region="eu-west-1")
    for template in (
        spec["headGroupSpec"]["template"],
        spec["workerGroupSpecs"][0]["template"],
    ):
        found = _named(template["spec"]["containers"][0]["env"])
        assert found["AWS_REGION"]["value"] == found["AWS_DEFAULT_REGION"]["value"] == "eu-west-1"


def test_containers_of_the_users_own_are_restricted_too() -> None:
    own = {"containers": [{"name": "logs", "image": "acme/logs:1"}]}
    for restricted in (True, False):
        spec = cluster_spec(cpu(pod={"spec": own}), security={"restricted": restricted})
        ray, logs = spec["workerGroupSpecs"][0]["template"]["spec"]["containers"]
        assert logs["name"] == "logs"
        assert logs.get("securityContext") == ray.get("securityContext")
        assert ("securityContext" in logs) is restricted


def test_efa_groups_tell_libfabric() -> None:
    with_efa = _named(container(gpu("p5.48xlarge", efa=True))["env"])
    assert with_efa["FI_PROVIDER"]["value"] == "efa"
    assert "FI_PROVIDER" not in _named(container(gpu("p5.48xlarge"))["env"])


def test_images_are_rays_own_unless_said_otherwise() -> None:
    spec = cluster_spec(
        cpu(), gpu("g6.12xlarge"), gpu("g6.xlarge", name="own", image="acme/ray:2.60.0-py311")
    )
    head = spec["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]
    images = [g["template"]["spec"]["containers"][0]["image"] for g in spec["workerGroupSpecs"]]
    assert head == images[0]
    assert head.startswith("rayproject/ray:2.60.0-py3")
    assert images[1:] == [f"{head}-gpu", "acme/ray:2.60.0-py311"]


def test_more_fields_are_laid_over_the_pod_by_name() -> None:
    more = {
        "metadata": {"annotations": {"team": "vision"}},
        "spec": {
            "dnsPolicy": "ClusterFirst",
            "containers": [
                {"name": "ray-worker", "imagePullPolicy": "Always"},
                {"name": "agent", "image": "acme/agent:1.0"},
            ],
        },
    }
    template = worker(cpu(pod=more))["template"]
    assert template["metadata"]["annotations"]["team"] == "vision"
    assert "karpenter.sh/do-not-disrupt" in template["metadata"]["annotations"]
    ray, agent = template["spec"]["containers"]
    assert (ray["name"], ray["imagePullPolicy"]) == ("ray-worker", "Always")
    assert ray["resources"]["requests"]
    assert agent["image"] == "acme/agent:1.0"


def test_a_changed_manifest_changes_no_specification() -> None:
    spec = Cluster(
        name="demo",
        backend="eks",
        groups=(cpu(pod={"metadata": {"annotations": {"a": "1"}}}),),
    )
    before = spec.manifest()
    changed = spec.manifest()
    metadata = changed["spec"]["workerGroupSpecs"][0]["template"]["metadata"]
    metadata["annotations"]["a"] = "2"
    assert spec.manifest() == before


def _annotations(group: Any) -> dict[str, str]:
    found: dict[str, str] = group["template"]["metadata"].get("annotations", {})
    return found


def _named(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in entries}


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
