"""Storage in the file system of pods."""

from __future__ import annotations

from typing import Any

from rendering import cluster_spec, container, eks, pod

from eksml import cpu, gpu
from eksml.cluster import WorkerGroup
from eksml.cluster.render import objects


def mounted(group: WorkerGroup, **fields: Any) -> dict[str, tuple[dict[str, Any], bool]]:
    """Path → (what lies there, whether it is read-only)."""
    made = pod(group, **fields)
    volumes = {volume.pop("name"): volume for volume in made.get("volumes", [])}
    mounts = made["containers"][0].get("volumeMounts", [])
    assert {mount["name"] for mount in mounts} == volumes.keys()
    return {
        mount["mountPath"]: (volumes[mount["name"]], mount.get("readOnly", False))
        for mount in mounts
    }


def test_shared_memory_and_scratch_have_the_size_that_was_asked() -> None:
    assert mounted(gpu("g6.12xlarge", shm="64Gi", scratch="1Ti")) == {
        "/dev/shm": ({"emptyDir": {"medium": "Memory", "sizeLimit": "64Gi"}}, False),
        "/mnt/scratch": ({"emptyDir": {"sizeLimit": "1Ti"}}, False),
    }


def test_shared_memory_is_the_operators_unless_said() -> None:
    assert mounted(cpu()) == {}


def test_claims_file_systems_and_secrets_are_mounted_by_name() -> None:
    mounts = (
        {"kind": "fsx", "claim": "lustre", "path": "/fsx"},
        {"kind": "claim", "claim": "models", "path": "/models", "read_only": True},
        {"kind": "secret", "secret": "hub", "path": "/secrets/hub"},
    )
    assert mounted(cpu(mounts=mounts)) == {
        "/fsx": ({"persistentVolumeClaim": {"claimName": "lustre"}}, False),
        "/models": ({"persistentVolumeClaim": {"claimName": "models"}}, True),
        "/secrets/hub": ({"secret": {"secretName": "hub"}}, True),
    }


def test_a_bucket_is_mounted_by_the_claim_that_is_made_for_it() -> None:
    spec = eks(cpu(mounts=({"kind": "s3", "bucket": "my-data", "path": "/data"},)))
    made = {(one["kind"], one["metadata"]["name"]) for one in objects(spec)}
    ((source, read_only),) = mounted(spec.groups[0]).values()
    assert ("PersistentVolumeClaim", source["persistentVolumeClaim"]["claimName"]) in made
    assert read_only is True


def test_mounts_of_the_cluster_are_on_every_node_besides_its_own() -> None:
    everywhere = ({"kind": "claim", "claim": "shared", "path": "/data"},)
    own = ({"kind": "claim", "claim": "own", "path": "/own"},)
    spec = cluster_spec(cpu(), cpu(name="other", mounts=own), mounts=everywhere)
    claims = [
        [one["persistentVolumeClaim"]["claimName"] for one in group["template"]["spec"]["volumes"]]
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])
    ]
    assert claims == [["shared"], ["shared"], ["shared", "own"]]


def test_a_claim_at_two_paths_is_attached_once() -> None:
    mounts = tuple(
        {"kind": "claim", "claim": "models", "path": path, "read_only": read_only}
        for path, read_only in (("/in", True), ("/out", False))
    )
    made = pod(cpu(mounts=mounts))
    assert len(made["volumes"]) == 1
    mounts_made = container(cpu(mounts=mounts))["volumeMounts"]
    assert [(m["mountPath"], m.get("readOnly", False)) for m in mounts_made] == [
        ("/in", True),
        ("/out", False),
    ]
