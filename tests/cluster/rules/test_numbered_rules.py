"""KubeRay's rules that no schema enforces, by their numbers: the broken is refused, the right one
accepted. The API server took each of the broken ones."""

from __future__ import annotations

import pytest
from manifests import (
    LEFT_OUT,
    accepted,
    changed,
    cluster_spec,
    group,
    job_spec,
    ray_cluster,
    ray_cron_job,
    ray_job,
    ray_service,
    refusals,
    template,
)

from eksml.cluster.rules import GATES, check, strip_none

HEAD = "spec.headGroupSpec"
GROUP = "spec.workerGroupSpecs.0"


@pytest.mark.parametrize(
    ("manifest", "longest"),
    [(ray_cluster(), 53), (ray_job(), 47), (ray_service(), 47), (ray_cron_job(), 36)],
    ids=lambda value: value["kind"] if isinstance(value, dict) else str(value),
)
def test_rule_1_names_are_dns_1035_and_leave_room_for_what_is_appended(manifest, longest):
    assert accepted(changed(manifest, "metadata.name", "a" * longest), GATES)
    for wrong in ("a" * (longest + 1), "Team", "1team", "team-", "team.a", "team_a", ""):
        broken = changed(manifest, "metadata.name", wrong)
        assert ("rule 1: names", "metadata.name") in refusals(broken, GATES)
    generated = changed(manifest, "metadata.name", LEFT_OUT)
    assert ("rule 1: names", "metadata.name") in refusals(generated, GATES)
    assert accepted(changed(generated, "metadata.generateName", "a-"), GATES)
    too_long = changed(generated, "metadata.generateName", "a" * longest)
    assert ("rule 1: names", "metadata.generateName") in refusals(too_long, GATES)


@pytest.mark.parametrize("where", [HEAD, GROUP])
def test_rule_2_the_head_and_every_group_have_a_container(where):
    empty = changed(ray_cluster(), f"{where}.template.spec.containers", [])
    path = f"{where}.template.spec.containers"
    assert refusals(empty) >= {("rule 2: groups", path)}
    missing = changed(ray_cluster(), f"{where}.template.spec.containers", LEFT_OUT)
    assert refusals(missing) >= {("rule 2: groups", path)}


def test_rule_2_group_names_are_unique():
    assert accepted(ray_cluster(group("a"), group("b")))
    assert refusals(ray_cluster(group("a"), group("b"), group("a"))) == {
        ("rule 2: groups", "spec.workerGroupSpecs.0.groupName"),
        ("rule 2: groups", "spec.workerGroupSpecs.2.groupName"),
    }
    for wrong in ("headgroup", "a_b", "a.b", "-a"):
        assert refusals(ray_cluster(group(wrong))) == {("rule 2: groups", f"{GROUP}.groupName")}


@pytest.mark.parametrize(
    ("low", "now", "high", "wrong"),
    [
        (-1, 0, 4, "minReplicas"),
        (2, 1, 4, "replicas"),
        (0, 5, 4, "maxReplicas"),
        (0, -1, 4, "replicas"),
        (3, None, 2, "maxReplicas"),
        (0, None, -1, "maxReplicas"),
    ],
)
def test_rule_3_replicas_lie_between_0_and_min_and_max(low, now, high, wrong):
    numbers = {"minReplicas": low, "replicas": now, "maxReplicas": high}
    broken = group(**{name: number for name, number in numbers.items() if number is not None})
    if now is None:
        del broken["replicas"]
    assert ("rule 3: replicas", f"{GROUP}.{wrong}") in refusals(ray_cluster(broken))


def test_rule_3_equal_numbers_are_right():
    assert accepted(ray_cluster(group(minReplicas=0, replicas=0, maxReplicas=0)))
    assert accepted(ray_cluster(group(minReplicas=2, replicas=2, maxReplicas=2)))


@pytest.mark.parametrize("param", ["num-cpus", "num-gpus", "memory", "resources"])
@pytest.mark.parametrize("where", [HEAD, GROUP])
def test_rule_4_a_size_is_said_once(where, param):
    by_group = changed(ray_cluster(), f"{where}.rayStartParams", {})
    by_group = changed(by_group, f"{where}.resources", {"CPU": "8", "memory": "16Gi"})
    assert accepted(by_group)
    value = '"{\\"a\\": 1}"' if param == "resources" else "8"
    by_param = changed(ray_cluster(), f"{where}.rayStartParams", {param: value})
    assert accepted(by_param)
    both = changed(by_group, f"{where}.rayStartParams", {param: value})
    assert refusals(both) == {("rule 4: resources", f"{where}.resources")}


def test_rule_4_sizes_are_amounts_under_rays_own_names():
    sizes = {"cpu": "8", "GPU": "many", "memory": "-1Gi"}
    assert refusals(changed(ray_cluster(), f"{GROUP}.resources", sizes)) == {
        ("rule 4: resources", f"{GROUP}.resources.{name}") for name in sizes
    }
    params = {"memory": "16Gi", "num-cpus": "1.5"}
    assert refusals(changed(ray_cluster(), f"{GROUP}.rayStartParams", params)) == {
        ("rule 4: resources", f"{GROUP}.rayStartParams.{name}") for name in params
    }


@pytest.mark.parametrize("where", [HEAD, GROUP])
def test_rule_5_labels_of_ray_are_valid_and_not_among_the_start_parameters(where):
    right = {"ray.io/market-type": "spot", "team": "", "a.b/c_d": "E.1"}
    assert accepted(changed(ray_cluster(), f"{where}.labels", right))
    params = changed(ray_cluster(), f"{where}.rayStartParams.labels", "team=a")
    assert refusals(params) == {("rule 5: labels", f"{where}.rayStartParams.labels")}
    for key, value in {"-a": "x", "a/b/c": "x", "a": "x y", "b": "x" * 64, "A_/b": "x"}.items():
        broken = changed(ray_cluster(), f"{where}.labels", {key: value})
        assert {rule for rule, _ in refusals(broken)} == {"rule 5: labels"}


def test_rule_6_an_idle_timeout_is_not_negative_and_a_groups_own_needs_v2_said():
    own = ray_cluster(group(idleTimeoutSeconds=0))
    assert accepted(own)
    path = f"{GROUP}.idleTimeoutSeconds"
    negative = ray_cluster(group(idleTimeoutSeconds=-1))
    assert refusals(negative) == {("rule 6: idle timeouts", path)}
    for options in ({}, {"version": "v1"}):
        not_v2 = changed(own, "spec.autoscalerOptions", options)
        assert refusals(not_v2) == {("rule 6: idle timeouts", path)}
    not_scaled = changed(own, "spec.enableInTreeAutoscaling", False)
    assert refusals(not_scaled) == {("rule 6: idle timeouts", path)}
    whole = "spec.autoscalerOptions.idleTimeoutSeconds"
    assert refusals(changed(own, whole, -1)) == {("rule 6: idle timeouts", whole)}


def test_rule_7_priority_needs_autoscaler_v2_and_ray_2_56():
    ranked = ray_cluster(group(priority=5))
    refused = {("rule 7: priority", f"{GROUP}.priority")}
    assert accepted(ranked)
    assert accepted(changed(ranked, "spec.rayVersion", "2.56.0"))
    assert refusals(changed(ranked, "spec.rayVersion", "2.55.9")) == refused
    assert refusals(changed(ranked, "spec.autoscalerOptions.version", "v1")) == refused
    assert refusals(changed(ranked, "spec.enableInTreeAutoscaling", False)) == refused
    unsaid = changed(ranked, "spec.rayVersion", LEFT_OUT)
    assert refusals(unsaid) >= refused
    unused = changed(ray_cluster(group(priority=0)), "spec.autoscalerOptions.version", "v1")
    assert accepted(unused)


@pytest.mark.parametrize("where", [HEAD, GROUP])
def test_rule_8_under_v2_no_pod_restarts_in_place(where):
    path = f"{where}.template.spec.restartPolicy"
    assert accepted(changed(ray_cluster(), path, "Never"))
    for policy in ("Always", "OnFailure"):
        broken = changed(ray_cluster(), path, policy)
        assert refusals(broken) == {("rule 8: autoscaler v2", path)}
        assert accepted(changed(broken, "spec.autoscalerOptions.version", "v1"))


def test_rule_8_v2_is_asked_for_in_one_way():
    env = f"{HEAD}.template.spec.containers.0.env"
    both = changed(ray_cluster(), env, [{"name": "RAY_enable_autoscaler_v2", "value": "1"}])
    assert refusals(both) == {("rule 8: autoscaler v2", f"{env}.0")}
    by_env = changed(both, "spec.autoscalerOptions", {})
    assert accepted(by_env)
    policy = f"{GROUP}.template.spec.restartPolicy"
    assert refusals(changed(by_env, policy, "Always")) == {("rule 8: autoscaler v2", policy)}
    without = changed(by_env, "spec.enableInTreeAutoscaling", False)
    assert refusals(without) == {("rule 8: autoscaler v2", f"{env}.0")}


def test_rule_9_no_group_is_suspended_while_the_autoscaler_runs():
    suspended = ray_cluster(group(suspend=True))
    assert refusals(suspended) == {("rule 9: suspended groups", f"{GROUP}.suspend")}
    assert accepted(changed(suspended, "spec.enableInTreeAutoscaling", False))


REDIS = {"backend": "redis", "redisAddress": "redis:6379"}


def test_rule_10_fault_tolerance_is_configured_in_one_place():
    name = "rule 10: head state is said once"
    env = f"{HEAD}.template.spec.containers.0.env"
    safe = ray_cluster(gcsFaultToleranceOptions=REDIS)
    assert accepted(safe)
    annotated = changed(safe, "metadata.annotations", {"ray.io/ft-enabled": "true"})
    assert refusals(annotated) == {(name, "metadata.annotations[ray.io/ft-enabled]")}
    for variable in ("RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME"):
        by_env = changed(safe, env, [{"name": variable, "value": "x"}])
        assert refusals(by_env) == {(name, f"{env}.0")}
    for param in ("redis-password", "redis-username"):
        by_param = changed(safe, f"{HEAD}.rayStartParams", {param: "x"})
        assert refusals(by_param) == {(name, f"{HEAD}.rayStartParams.{param}")}
    implicit = changed(ray_cluster(), env, [{"name": "RAY_REDIS_ADDRESS", "value": "redis:6379"}])
    assert refusals(implicit) == {(name, f"{env}.0")}


def test_rule_11_rocksdb_needs_its_gate_and_none_of_redis():
    name, options = "rule 11: head state store", "spec.gcsFaultToleranceOptions"
    gate = ["GCSFaultToleranceEmbeddedStorage"]
    embedded = ray_cluster(
        gcsFaultToleranceOptions={"backend": "rocksdb", "storage": {"size": "10Gi"}}
    )
    assert accepted(embedded, gate)
    assert refusals(embedded) == {(name, f"{options}.backend")}
    for field, value in {
        "redisAddress": "redis:6379",
        "redisPassword": {"value": "x"},
        "redisUsername": {"value": "x"},
        "externalStorageNamespace": "a",
    }.items():
        broken = changed(embedded, f"{options}.{field}", value)
        assert refusals(broken, gate) == {(name, f"{options}.{field}")}
    claim = changed(embedded, f"{options}.storage", {"claimName": "gcs"})
    assert accepted(claim, gate)
    for field, value in {
        "size": "10Gi",
        "storageClassName": "gp3",
        "accessModes": ["ReadWriteOnce"],
    }.items():
        broken = changed(claim, f"{options}.storage.{field}", value)
        assert refusals(broken, gate) == {(name, f"{options}.storage.{field}")}


def test_rule_11_redis_needs_an_address_and_takes_no_storage():
    name, options = "rule 11: head state store", "spec.gcsFaultToleranceOptions"
    stored = ray_cluster(gcsFaultToleranceOptions={**REDIS, "storage": {"size": "1Gi"}})
    assert refusals(stored) == {(name, f"{options}.storage")}
    nowhere = ray_cluster(gcsFaultToleranceOptions={})
    assert refusals(nowhere) == {(name, f"{options}.redisAddress")}


def test_rule_12_a_token_needs_ray_2_52_said():
    refused = {("rule 12: authentication", "spec.authOptions.mode")}
    assert accepted(changed(ray_cluster(), "spec.rayVersion", "2.52.0"))
    for version in ("2.51.9", "latest", ""):
        assert refusals(changed(ray_cluster(), "spec.rayVersion", version)) == refused
    assert refusals(changed(ray_cluster(), "spec.rayVersion", LEFT_OUT)) == refused
    unguarded = changed(ray_cluster(), "spec.authOptions.mode", "disabled")
    assert accepted(changed(unguarded, "spec.rayVersion", "2.40.0"))


def test_rule_12_delegating_to_kubernetes_needs_ray_2_55_no_secret_and_a_cluster_of_its_own():
    name, options = "rule 12: authentication", "spec.authOptions"
    delegated = changed(ray_cluster(), f"{options}.enableK8sTokenAuth", True)
    assert accepted(changed(delegated, "spec.rayVersion", "2.55.0"))
    refused = {(name, f"{options}.enableK8sTokenAuth")}
    assert refusals(changed(delegated, "spec.rayVersion", "2.54.0")) == refused
    assert refusals(changed(delegated, f"{options}.mode", "disabled")) == refused
    secret = changed(delegated, f"{options}.secretName", "token")
    assert refusals(secret) == {(name, f"{options}.secretName")}
    for manifest, where in (
        (ray_job(), "spec.rayClusterSpec"),
        (ray_service(), "spec.rayClusterConfig"),
        (ray_cron_job(), "spec.jobTemplate.rayClusterSpec"),
    ):
        path = f"{where}.authOptions.enableK8sTokenAuth"
        assert refusals(changed(manifest, path, True), GATES) == {(name, path)}


def test_rule_13_a_job_starts_a_cluster_or_selects_one():
    alone = changed(ray_job(), "spec.rayClusterSpec", LEFT_OUT)
    name = "rule 13: job: cluster"
    assert refusals(alone) == {(name, "spec.rayClusterSpec")}
    selecting = changed(alone, "spec.clusterSelector", {"ray.io/cluster": "team-a"})
    assert accepted(selecting)
    both = changed(selecting, "spec.rayClusterSpec", cluster_spec())
    assert refusals(both) == {(name, "spec.rayClusterSpec")}
    nobody = changed(selecting, "spec.clusterSelector", {"team": "a"})
    assert refusals(nobody) == {(name, "spec.clusterSelector")}


def test_rule_13_a_selected_cluster_is_neither_suspended_nor_retried_nor_deleted():
    selecting = ray_job(clusterSelector={"ray.io/cluster": "team-a"})
    del selecting["spec"]["rayClusterSpec"]
    name = "rule 13: job: cluster"
    suspended = changed(selecting, "spec.suspend", True)
    assert refusals(suspended) >= {(name, "spec.suspend")}
    assert accepted(changed(selecting, "spec.backoffLimit", 0))
    assert refusals(changed(selecting, "spec.backoffLimit", 1)) == {(name, "spec.backoffLimit")}
    sidecar = changed(selecting, "spec.submissionMode", "SidecarMode")
    assert refusals(sidecar) == {(name, "spec.submissionMode")}
    rules = "spec.deletionStrategy.deletionRules"
    for policy in ("DeleteCluster", "DeleteWorkers"):
        deleting = changed(selecting, rules, [rule(policy)])
        refused = {("rule 13: job: deletion rules", f"{rules}.0.policy")}
        assert refusals(deleting) == refused
    assert accepted(changed(selecting, rules, [rule("DeleteSelf")]))


def rule(policy: str, after_s: int = 0, status: str = "SUCCEEDED") -> dict[str, object]:
    return {"policy": policy, "condition": {"jobStatus": status, "ttlSeconds": after_s}}


def test_rule_13_suspending_and_a_time_to_live_need_the_cluster_to_shut_down():
    name = "rule 13: job: end"
    assert refusals(ray_job(suspend=True)) == {(name, "spec.suspend")}
    assert accepted(ray_job(suspend=True, shutdownAfterJobFinishes=True))
    ttl = "spec.ttlSecondsAfterFinished"
    assert refusals(ray_job(ttlSecondsAfterFinished=60)) == {(name, ttl)}
    assert refusals(ray_job(ttlSecondsAfterFinished=-1)) == {(name, ttl)}
    assert accepted(ray_job(ttlSecondsAfterFinished=60, shutdownAfterJobFinishes=True))
    assert accepted(ray_job(ttlSecondsAfterFinished=0))


def test_rule_13_deletion_rules_stand_alone_are_unique_and_go_from_workers_to_the_job():
    path, name = "spec.deletionStrategy.deletionRules", "rule 13: job: deletion rules"

    def job(*rules: object, **fields: object) -> dict[str, object]:
        return ray_job(deletionStrategy={"deletionRules": list(rules)}, **fields)

    right = job(
        rule("DeleteCluster", 300), rule("DeleteSelf", 600), rule("DeleteSelf", 0, "FAILED")
    )
    assert accepted(right)
    shutdown = changed(right, "spec.shutdownAfterJobFinishes", True)
    assert refusals(shutdown) == {("rule 13: job: end", "spec.shutdownAfterJobFinishes")}
    twice = job(rule("DeleteCluster", 1), rule("DeleteCluster", 2))
    assert refusals(twice) == {(name, f"{path}.1")}
    self_first = job(rule("DeleteSelf", 1), rule("DeleteCluster", 2))
    assert refusals(self_first) == {(name, f"{path}.0.condition.ttlSeconds")}
    negative = job(rule("DeleteSelf", -1))
    assert refusals(negative) == {(name, f"{path}.0.condition.ttlSeconds")}
    workers = job(rule("DeleteWorkers", 1))
    assert refusals(workers) == {(name, f"{path}.0.policy")}
    assert accepted(changed(workers, "spec.rayClusterSpec.enableInTreeAutoscaling", False))
    unsaid = job({"policy": "DeleteSelf", "condition": {}})
    assert refusals(unsaid) == {(name, f"{path}.0.condition")}
    on_both = {"jobStatus": "FAILED", "jobDeploymentStatus": "Failed"}
    assert refusals(job({"policy": "DeleteSelf", "condition": on_both})) == {
        (name, f"{path}.0.condition")
    }


def test_rule_13_deletion_on_success_and_failure_is_said_for_both():
    policies = {"onSuccess": {"policy": "DeleteCluster"}, "onFailure": {"policy": "DeleteNone"}}
    both = ray_job(deletionStrategy=policies)
    assert accepted(both)
    name = "rule 13: job: end"
    one = changed(both, "spec.deletionStrategy.onFailure", LEFT_OUT)
    assert refusals(one) == {(name, "spec.deletionStrategy")}
    assert refusals(ray_job(deletionStrategy={})) == {(name, "spec.deletionStrategy")}
    kept = changed(both, "spec.shutdownAfterJobFinishes", True)
    assert refusals(kept) == {(name, "spec.deletionStrategy.onFailure.policy")}


def test_rule_13_deadlines_are_more_than_0_and_retries_not_less():
    limits = {
        "activeDeadlineSeconds": (1, 0),
        "preRunningDeadlineSeconds": (1, 0),
        "backoffLimit": (0, -1),
    }
    for field, (right, wrong) in limits.items():
        assert accepted(ray_job(**{field: right}))
        refused = {("rule 13: job: limits", f"spec.{field}")}
        assert refusals(ray_job(**{field: wrong})) == refused
    retried = ray_job(submitterConfig={"backoffLimit": -1})
    assert refusals(retried) == {("rule 13: job: limits", "spec.submitterConfig.backoffLimit")}


def test_rule_13_each_submission_mode_takes_what_it_reads():
    name = "rule 13: job: submission"
    for mode in ("K8sJobMode", "HTTPMode", "SidecarMode"):
        assert accepted(ray_job(submissionMode=mode))
        assert refusals(ray_job(submissionMode=mode, entrypoint=" ")) == {(name, "spec.entrypoint")}
    interactive = ray_job(submissionMode="InteractiveMode")
    assert accepted(changed(interactive, "spec.entrypoint", LEFT_OUT))
    retried = changed(interactive, "spec.backoffLimit", 1)
    assert refusals(retried) == {(name, "spec.backoffLimit")}
    sidecar = ray_job(submissionMode="SidecarMode")
    for field, value in {
        "submitterConfig": {"backoffLimit": 1},
        "submitterPodTemplate": template(),
    }.items():
        assert refusals(changed(sidecar, f"spec.{field}", value)) == {(name, f"spec.{field}")}
        assert accepted(ray_job(**{field: value}))
    assert refusals(ray_job(submissionMode="SideCar")) == {("rule: fields", "spec.submissionMode")}


@pytest.mark.parametrize(
    "text",
    [
        *("a: [", "a: 1\n  b: 2", "[numpy]", "numpy", "\0", "pip: []\npip: []"),
        *("a: !!python/x 1", "a: !!bool maybe", "a: !!timestamp now", "a: !!int ''"),
    ],
)
@pytest.mark.parametrize("library", [None, "lmformatenforcer.external.jsonschemaobjectutil"])
def test_rule_13_the_runtime_environment_is_yaml_that_holds_a_mapping(text, library):
    if library:  # it changes PyYAML for the whole process
        pytest.importorskip(library)
    assert accepted(ray_job(runtimeEnvYAML="pip: [numpy]\nenv_vars: {A: '1'}\n"))
    assert accepted(ray_job(runtimeEnvYAML=""))
    refused = {("rule 13: job: runtime environment", "spec.runtimeEnvYAML")}
    assert refusals(ray_job(runtimeEnvYAML=text)) == refused


def test_rule_13_holds_for_the_template_of_a_cron_job():
    broken = ray_cron_job(jobTemplate=job_spec(activeDeadlineSeconds=0, entrypoint=""))
    assert refusals(broken, GATES) == {
        ("rule 13: job: limits", "spec.jobTemplate.activeDeadlineSeconds"),
        ("rule 13: job: submission", "spec.jobTemplate.entrypoint"),
    }


def test_rule_14_the_head_service_of_a_service_has_no_name():
    path = "spec.rayClusterConfig.headGroupSpec.headService.metadata.name"
    refused = {("rule 14: service: head service", path)}
    assert refusals(changed(ray_service(), path, "head")) == refused
    labelled = changed(ray_service(), path.replace(".name", ".labels"), {"team": "a"})
    assert accepted(labelled)


def test_rule_14_an_incremental_upgrade_needs_the_autoscaler():
    scaled = "spec.rayClusterConfig.enableInTreeAutoscaling"
    broken = changed(ray_service(), scaled, False)
    refused = {("rule 14: service: upgrade", "spec.upgradeStrategy.type")}
    assert accepted(ray_service())
    assert refusals(broken) == refused
    assert accepted(changed(broken, "spec.upgradeStrategy", {"type": "NewCluster"}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stepSizePercent", -1),
        ("stepSizePercent", 21),
        ("stepSizePercent", LEFT_OUT),
        ("maxSurgePercent", 101),
        ("intervalSeconds", 0),
        ("intervalSeconds", LEFT_OUT),
        ("gatewayClassName", ""),
        ("gatewayClassName", LEFT_OUT),
    ],
)
def test_rule_14_the_options_of_an_incremental_upgrade_are_there_and_within_bounds(field, value):
    path = f"spec.upgradeStrategy.clusterUpgradeOptions.{field}"
    refused = {("rule 14: service: upgrade", path)}
    assert refusals(changed(ray_service(), path, value)) == refused


def test_rule_14_options_of_an_upgrade_are_neither_missing_nor_useless():
    options = "spec.upgradeStrategy.clusterUpgradeOptions"
    refused = {("rule 14: service: upgrade", options)}
    assert refusals(changed(ray_service(), options, LEFT_OUT)) == refused
    other = changed(ray_service(), "spec.upgradeStrategy.type", "NewCluster")
    assert refusals(other) == refused


def test_rule_14_an_initializing_timeout_is_a_time():
    path = "metadata.annotations"
    key = "ray.io/initializing-timeout"
    for right in ("600", "30m", "1h30m", "1.5h"):
        assert accepted(changed(ray_service(), path, {key: right}))
    for wrong in ("soon", "0", "-5m", "30 m", "0s"):
        refused = {("rule 14: service: initializing timeout", f"{path}[{key}]")}
        assert refusals(changed(ray_service(), path, {key: wrong})) == refused


@pytest.mark.parametrize("wrong", ["", "* * * *", "0 0 * * 7", "TZ=UTC 0 0 * * *", "@fortnightly"])
def test_rule_15_a_cron_job_has_a_schedule_without_a_time_zone(wrong):
    assert accepted(ray_cron_job(), GATES)
    refused = {("rule 15: schedule", "spec.schedule")}
    assert refusals(ray_cron_job(schedule=wrong), GATES) == refused


@pytest.mark.parametrize("wrong", ["", "Berlin", "Europe", "../UTC", "/etc/localtime", "CET+1\0"])
def test_rule_15_a_time_zone_loads(wrong):
    assert accepted(ray_cron_job(timeZone="Asia/Tokyo"), GATES)
    refused = {("rule 15: schedule", "spec.timeZone")}
    assert refusals(ray_cron_job(timeZone=wrong), GATES) == refused


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        ("RayCluster", "spec.headGroupSpec.template"),
        ("RayCluster", "spec.workerGroupSpecs.0.template"),
        ("RayJob", "spec.rayClusterSpec.workerGroupSpecs.0.template"),
        ("RayJob", "spec.submitterPodTemplate"),
        ("RayService", "spec.rayClusterConfig.headGroupSpec.template"),
        ("RayCronJob", "spec.jobTemplate.rayClusterSpec.headGroupSpec.template"),
    ],
)
def test_rule_16_pod_templates_are_checked_as_pods_wherever_they_lie(kind, where):
    makers = (ray_cluster, ray_service, ray_cron_job, ray_job)
    good = {manifest["kind"]: manifest for manifest in (make() for make in makers)}[kind]
    good = changed(good, where, template())
    assert accepted(good, GATES)
    half = changed(good, f"{where}.spec.containers.0.resources.limits", {"nvidia.com/gpu": "0.5"})
    half = changed(half, f"{where}.spec.containers.0.resources.requests", {"cpu": "1"})
    limit = f"{where}.spec.containers.0.resources.limits[nvidia.com/gpu]"
    assert refusals(half, GATES) == {("rule 16: pod: resources", limit)}
    mounts = [{"name": "data", "mountPath": "/data"}]
    unmounted = changed(good, f"{where}.spec.containers.0.volumeMounts", mounts)
    assert refusals(unmounted, GATES) == {
        ("rule 16: pod: mounts", f"{where}.spec.containers.0.volumeMounts.0.name")
    }


def test_rule_17_nulls_are_refused_and_stripped():
    good = ray_cluster(group(rayStartParams={}))
    nulls = changed(good, f"{GROUP}.idleTimeoutSeconds", None)
    nulls = changed(nulls, "spec.suspend", None)
    nulls = changed(nulls, f"{GROUP}.template.spec.containers.0.args", [None])
    assert refusals(nulls) == {
        ("rule 17: nulls", f"{GROUP}.idleTimeoutSeconds"),
        ("rule 17: nulls", "spec.suspend"),
        ("rule 17: nulls", f"{GROUP}.template.spec.containers.0.args.0"),
    }
    stripped = strip_none(nulls)
    assert accepted(stripped)
    assert stripped["spec"]["workerGroupSpecs"][0]["rayStartParams"] == {}, "what is empty stays"


def test_all_problems_come_at_once_each_with_path_value_and_rule():
    broken = ray_cluster(group(minReplicas=9, priority=5), rayVersion="2.40.0")
    broken["metadata"]["name"] = "Team"
    texts = [str(problem) for problem in check(broken)]
    assert [text.rpartition(" (")[2] for text in texts] == [
        "rule 1: names)",
        "rule 3: replicas)",
        "rule 3: replicas)",
        "rule 7: priority)",
        "rule 12: authentication)",
    ]
    assert texts[3] == (
        "spec.workerGroupSpecs.0.priority: 5 needs Ray 2.56, but rayVersion is 2.40.0. "
        "Set rayVersion. (rule 7: priority)"
    )


def test_objects_of_other_kinds_are_none_of_its_business():
    assert check({"kind": "Deployment", "spec": {"minReplicas": -1}}) == []
    assert check({}) == []
