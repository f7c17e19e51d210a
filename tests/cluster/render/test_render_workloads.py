"""RayJob, RayService and RayCronJob."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from rendering import eks, rendered

from eksml import cpu
from eksml.cluster.workloads import RayCronSpec, RayJobSpec, RayServiceSpec
from eksml.errors import InvalidSpec

KUEUE = {"name": "team-a"}
CONFIG = {"applications": [{"name": "app", "import_path": "app:app", "route_prefix": "/"}]}
CRON = {"gates": ("RayCronJob",)}
ROCKSDB = {"gates": ("GCSFaultToleranceEmbeddedStorage", "RayCronJob")}
CLAIM = {"operator": ROCKSDB, "head_state": {"store": "rocksdb", "claim": "state"}}


def job(cluster: dict[str, Any] | None = None, **fields: Any) -> Any:
    """The ``spec`` of the RayJob."""
    said = {"entrypoint": "python train.py"} | fields
    return rendered(eks(cpu(nodes=2), **(cluster or {})), RayJobSpec(**said))["spec"]


def rules(made: Any) -> set[tuple[str, str, int]]:
    """Deletion rules, as what, at which end, after how many seconds."""
    found = set()
    for rule in made["deletionStrategy"]["deletionRules"]:
        condition = dict(rule["condition"])
        seconds = condition.pop("ttlSeconds")
        (end,) = condition.values()
        found.add((rule["policy"], end, seconds))
    return found


def test_a_job_brings_its_cluster_and_takes_it_away() -> None:
    made = job()
    assert made["entrypoint"] == "python train.py"
    assert made["rayClusterSpec"]["workerGroupSpecs"][0]["groupName"] == "cpu"
    assert rules(made) == {
        (policy, end, seconds)
        for policy, seconds in (("DeleteCluster", 300), ("DeleteSelf", 86400))
        for end in ("SUCCEEDED", "FAILED", "Failed")
    }


def test_expensive_workers_can_go_before_the_head_that_holds_the_logs() -> None:
    found = rules(job(delete_workers_s=0, delete_cluster_s=3600, delete_job_s=None))
    assert ("DeleteWorkers", "SUCCEEDED", 0) in found
    assert ("DeleteCluster", "SUCCEEDED", 3600) in found
    assert not any(policy == "DeleteSelf" for policy, _, _ in found)


def test_a_job_that_keeps_everything_has_no_rules() -> None:
    assert "deletionStrategy" not in job(delete_cluster_s=None, delete_job_s=None)


def test_retries_and_deadlines() -> None:
    made = job(retries=2, deadline_s=3600, pending_deadline_s=900)
    assert made["backoffLimit"] == 2
    assert made["activeDeadlineSeconds"] == 3600
    assert made["preRunningDeadlineSeconds"] == 900
    assert not {"backoffLimit", "activeDeadlineSeconds", "suspend"} & job().keys()


def test_a_runtime_environment_travels_as_yaml() -> None:
    environment = {"pip": ["numpy==2.4"], "env_vars": {"A": "ü"}}
    assert yaml.safe_load(job(runtime_env=environment)["runtimeEnvYAML"]) == environment


@pytest.mark.parametrize(
    ("mode", "written"),
    [
        ("sidecar", "SidecarMode"),
        ("k8s", "K8sJobMode"),
        ("http", "HTTPMode"),
        ("interactive", "InteractiveMode"),
    ],
)
def test_only_a_kubernetes_job_has_a_submitter(mode: str, written: str) -> None:
    entrypoint = "" if mode == "interactive" else "python train.py"
    made = job(mode=mode, entrypoint=entrypoint)
    assert made["submissionMode"] == written
    assert ("submitterConfig" in made) is (mode == "k8s")
    assert ("submitterPodTemplate" in made) is (mode == "k8s")


def test_a_submitter_obeys_the_restricted_standard_too() -> None:
    made = job(mode="k8s", submitter_retries=5)
    assert made["submitterConfig"] == {"backoffLimit": 5}
    pod = made["submitterPodTemplate"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False
    head = made["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert pod["containers"][0]["image"] == head["image"]
    loose = job({"security": {"restricted": False}}, mode="k8s")
    assert "submitterPodTemplate" not in loose


def test_a_job_on_a_running_cluster_deletes_only_itself_and_queues_nowhere() -> None:
    on = RayJobSpec(entrypoint="python a.py", mode="http", selector={"ray.io/cluster": "shared"})
    made = rendered(eks(cpu(), queue=KUEUE), on)
    assert made["spec"]["clusterSelector"] == {"ray.io/cluster": "shared"}
    assert "rayClusterSpec" not in made["spec"]
    assert {policy for policy, _, _ in rules(made["spec"])} == {"DeleteSelf"}
    assert "kueue.x-k8s.io/queue-name" not in made["metadata"]["labels"]


@pytest.mark.parametrize("fields", [{"cluster": {"queue": KUEUE}}, {"suspend": True}])
def test_kueue_and_suspension_need_the_cluster_to_go_as_a_whole(fields: dict[str, Any]) -> None:
    made = job(**fields, delete_cluster_s=600)
    assert made["shutdownAfterJobFinishes"] is True
    assert made["ttlSecondsAfterFinished"] == 600
    assert "deletionStrategy" not in made


def test_a_queued_job_cannot_keep_its_cluster_or_part_with_its_workers() -> None:
    with pytest.raises(InvalidSpec) as caught:
        job({"queue": KUEUE}, delete_cluster_s=None, delete_workers_s=60)
    assert {problem.path for problem in caught.value.problems} == {
        "delete_cluster_s",
        "delete_workers_s",
    }


def test_a_service_is_upgraded_step_by_step_without_a_second_set_of_gpus() -> None:
    service = RayServiceSpec(serve_config=CONFIG, surge=50, step=25, interval_s=30)
    made = rendered(eks(cpu(nodes=(1, 4))), service)["spec"]
    assert made["upgradeStrategy"] == {
        "type": "NewClusterWithIncrementalUpgrade",
        "clusterUpgradeOptions": {
            "gatewayClassName": "istio",
            "maxSurgePercent": 50,
            "stepSizePercent": 25,
            "intervalSeconds": 30,
        },
    }
    assert made["rayClusterDeletionDelaySeconds"] == 60
    assert yaml.safe_load(made["serveConfigV2"]) == CONFIG


def test_a_steady_service_is_upgraded_onto_a_whole_second_cluster() -> None:
    for upgrade, written in (("new-cluster", "NewCluster"), ("none", "None")):
        service = RayServiceSpec(serve_config=yaml.safe_dump(CONFIG), upgrade=upgrade)
        made = rendered(eks(cpu(nodes=2)), service)["spec"]
        assert made["upgradeStrategy"] == {"type": written}


def test_incremental_upgrades_of_a_cluster_that_cannot_grow_are_refused() -> None:
    with pytest.raises(InvalidSpec, match="autoscal"):
        rendered(eks(cpu(nodes=2)), RayServiceSpec(serve_config=CONFIG))


@pytest.mark.parametrize(("head", "excluded"), [({}, True), ({"cpus": 2}, False)])
def test_traffic_passes_by_a_head_that_holds_no_replicas(
    head: dict[str, Any], excluded: bool
) -> None:
    service = RayServiceSpec(serve_config=CONFIG)
    made = rendered(eks(cpu(nodes=(1, 2)), head=head), service)["spec"]
    assert made.get("excludeHeadPodFromServeSvc", False) is excluded


def test_two_clusters_of_a_service_share_no_claim() -> None:
    with pytest.raises(InvalidSpec, match=r"head_state\.claim"):
        rendered(eks(cpu(nodes=(1, 2)), **CLAIM), RayServiceSpec(serve_config=CONFIG))


def test_a_job_by_the_clock() -> None:
    nightly = RayCronSpec(
        schedule="0 2 * * *",
        time_zone="Europe/Berlin",
        suspend=True,
        job=RayJobSpec(entrypoint="python train.py", retries=1),
    )
    made = rendered(eks(cpu(nodes=2), operator=CRON), nightly)["spec"]
    assert (made["schedule"], made["timeZone"], made["suspend"]) == (
        "0 2 * * *",
        "Europe/Berlin",
        True,
    )
    assert made["jobTemplate"]["backoffLimit"] == 1
    assert made["jobTemplate"]["rayClusterSpec"]["workerGroupSpecs"]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, "kind"),
        # The operator gives the jobs that it starts none of these labels
        ({"operator": CRON, "queue": KUEUE}, "queue"),
        (CLAIM, "head_state.claim"),
    ],
)
def test_what_the_clock_cannot_start_is_refused(fields: dict[str, Any], path: str) -> None:
    nightly = RayCronSpec(schedule="@daily", job=RayJobSpec(entrypoint="python train.py"))
    with pytest.raises(InvalidSpec) as caught:
        rendered(eks(cpu(nodes=2), **fields), nightly)
    assert [problem.path for problem in caught.value.problems] == [path]
