"""Manifests of every shape that people run: accepted by the rules as by the API server."""

from __future__ import annotations

import pytest
from crd import needs_crds, violations
from manifests import (
    Manifest,
    accepted,
    cluster_spec,
    container,
    group,
    job_spec,
    ray_cluster,
    ray_cron_job,
    ray_job,
    ray_service,
    template,
)

from eksml.cluster.rules import GATES

ZONE = "topology.kubernetes.io/zone"


def smallest() -> Manifest:
    """A head and nothing else."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": "a"},
        "spec": {
            "headGroupSpec": {
                "template": {"spec": {"containers": [{"name": "ray", "image": "rayproject/ray:2"}]}}
            }
        },
    }


def old_autoscaler() -> Manifest:
    """Autoscaler v1, sizes among the start parameters, pods that restart."""
    manifest = ray_cluster(
        group(
            rayStartParams={"num-cpus": "4", "resources": '"{\\"disk\\": 1}"'},
            scaleStrategy={"workersToDelete": []},
        ),
        autoscalerOptions={"upscalingMode": "Conservative"},
    )
    manifest["spec"]["headGroupSpec"]["template"]["spec"]["restartPolicy"] = "Always"
    return manifest


def gpu_training() -> Manifest:
    """Eight cards and EFA a node, a shared file system, spot, drained before it goes."""
    pod = template(**{"nvidia.com/gpu": 8, "vpc.amazonaws.com/efa": 32, "hugepages-2Mi": "5120Mi"})
    pod["metadata"] = {
        "labels": {"app.kubernetes.io/instance": "team-a", "kueue.x-k8s.io/queue-name": "gpu"},
        "annotations": {"karpenter.sh/do-not-disrupt": "true"},
    }
    pod["spec"]["containers"][0] |= {
        "env": [{"name": "FI_PROVIDER", "value": "efa"}],
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", "ray stop"]}}},
        "volumeMounts": [
            {"name": "fsx", "mountPath": "/fsx"},
            {"name": "shm", "mountPath": "/shm"},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    pod["spec"] |= {
        "serviceAccountName": "team-a",
        "terminationGracePeriodSeconds": 120,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000},
        "nodeSelector": {"node.kubernetes.io/instance-type": "p5.48xlarge", ZONE: "us-east-1a"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "volumes": [
            {"name": "fsx", "persistentVolumeClaim": {"claimName": "fsx"}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Gi"}},
        ],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [_market("karpenter.sh/capacity-type", "spot")]},
                        {"matchExpressions": [_market("eks.amazonaws.com/capacityType", "SPOT")]},
                    ]
                }
            }
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {
                    "matchLabels": {"app.kubernetes.io/instance": "team-a", "ray.io/group": "p5"}
                },
            }
        ],
    }
    p5 = group(
        "p5",
        template=pod,
        numOfHosts=2,
        priority=10,
        idleTimeoutSeconds=600,
        labels={"ray.io/accelerator-type": "H100", "ray.io/market-type": "spot"},
    )
    return ray_cluster(
        p5,
        group("cpu"),
        gcsFaultToleranceOptions={"backend": "rocksdb", "storage": {"size": "10Gi"}},
        authOptions={"mode": "token", "secretName": "team-a-token"},
    )


def _market(key: str, value: str) -> Manifest:
    return {"key": key, "operator": "In", "values": [value]}


def neuron_training() -> Manifest:
    """Trainium from 0, its cores stated for the autoscaler."""
    pod = template(**{"aws.amazon.com/neuron": 16})
    size = {"CPU": "120", "memory": "480Gi", "neuron_cores": "32"}
    return ray_cluster(group("trn1", template=pod, resources=size, replicas=0))


def side_cars() -> Manifest:
    """Containers beside and before Ray's, values from elsewhere, projected tokens."""
    pod = template()
    pod["spec"]["initContainers"] = [
        {"name": "wait", "image": "busybox:1", "restartPolicy": "Always"}
    ]
    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}
    pod["spec"]["volumes"] = [{"name": "token", "projected": {"sources": [token]}}]
    pod["spec"]["containers"] += [
        {
            "name": "logs",
            "image": "fluent-bit:3",
            "envFrom": [{"configMapRef": {"name": "logs"}}],
            "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "volumeMounts": [{"name": "token", "mountPath": "/token", "readOnly": True}],
            "livenessProbe": {"tcpSocket": {"port": 2020}},
        }
    ]
    return ray_cluster(
        group(template=pod),
        gcsFaultToleranceOptions={
            "redisAddress": "redis:6379",
            "redisPassword": {"valueFrom": {"secretKeyRef": {"name": "redis", "key": "password"}}},
        },
    )


def selecting_job() -> Manifest:
    manifest = ray_job(clusterSelector={"ray.io/cluster": "team-a"}, submissionMode="HTTPMode")
    del manifest["spec"]["rayClusterSpec"]
    return manifest


def job_with_deletion() -> Manifest:
    def delete(what: str, after_s: int, **status: str) -> Manifest:
        return {"policy": what, "condition": {**status, "ttlSeconds": after_s}}

    return ray_job(
        submissionMode="SidecarMode",
        backoffLimit=2,
        activeDeadlineSeconds=86400,
        preRunningDeadlineSeconds=1800,
        runtimeEnvYAML="working_dir: s3://bucket/code.zip\n",
        entrypointResources='{"neuron_cores": 1}',
        metadata={"team": "a"},
        deletionStrategy={
            "deletionRules": [
                delete("DeleteCluster", 0, jobStatus="SUCCEEDED"),
                delete("DeleteSelf", 86400, jobStatus="SUCCEEDED"),
                delete("DeleteCluster", 3600, jobDeploymentStatus="Failed"),
            ]
        },
    )


def queued_job() -> Manifest:
    """Kueue starts it: suspended, with its own submitter."""
    submitter = {"spec": {"restartPolicy": "Never", "containers": [container()]}}
    manifest = ray_job(
        suspend=True,
        shutdownAfterJobFinishes=True,
        ttlSecondsAfterFinished=600,
        submitterPodTemplate=submitter,
        submitterConfig={"backoffLimit": 2},
    )
    manifest["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "team-a"}
    return manifest


def plain_service() -> Manifest:
    return ray_service(
        upgradeStrategy={"type": "NewCluster"},
        rayClusterDeletionDelaySeconds=60,
        excludeHeadPodFromServeSvc=True,
        serveService={"metadata": {"labels": {"team": "a"}}, "spec": {"type": "ClusterIP"}},
        rayClusterConfig=cluster_spec(enableInTreeAutoscaling=False, autoscalerOptions={}),
    )


def daily() -> Manifest:
    return ray_cron_job(schedule="@daily", suspend=True, jobTemplate=job_spec(backoffLimit=1))


MANIFESTS = (
    smallest,
    old_autoscaler,
    gpu_training,
    neuron_training,
    side_cars,
    selecting_job,
    job_with_deletion,
    queued_job,
    plain_service,
    daily,
    ray_cluster,
    ray_job,
    ray_service,
    ray_cron_job,
)


@pytest.mark.parametrize("make", MANIFESTS)
def test_a_right_manifest_is_accepted(make):
    assert accepted(make(), GATES)


@needs_crds
@pytest.mark.parametrize("make", MANIFESTS)
def test_the_api_server_accepts_it_too(make):
    assert violations(make()) == []
