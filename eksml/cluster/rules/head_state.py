"""Rules 10 and 11: where the head keeps its state (GCS fault tolerance)."""

from __future__ import annotations

from collections.abc import Iterator

from eksml.cluster.rules.field import Field, rule
from eksml.cluster.rules.quantity import amount
from eksml.cluster.rules.ray_cluster import RayCluster
from eksml.cluster.vocabulary import ROCKSDB_GATE
from eksml.errors import Problem

_ROCKSDB_SINCE = (2, 57, 0)
_FT_ANNOTATION = "ray.io/ft-enabled"
_NAMESPACE_ANNOTATION = "ray.io/external-storage-namespace"
_REDIS_FIELDS = ("redisAddress", "redisUsername", "redisPassword", "externalStorageNamespace")
_ROCKSDB_ENV = ("RAY_gcs_storage", "RAY_gcs_storage_path")
_ACCESS_MODES = ("ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod")


@rule(10, "head state is said once")
def said_once(cluster: RayCluster) -> Iterator[Problem]:
    """Rule 10: fault tolerance is configured by ``gcsFaultToleranceOptions`` and nothing else."""
    options = cluster.spec["gcsFaultToleranceOptions"]
    moved = [
        (cluster.head.env("RAY_REDIS_ADDRESS"), "redisAddress"),
        (cluster.head.env("REDIS_USERNAME"), "redisUsername"),
        (cluster.head.params["redis-username"], "redisUsername"),
    ]
    if options.given:
        moved += [
            (cluster.head.env("REDIS_PASSWORD"), "redisPassword"),
            (cluster.head.params["redis-password"], "redisPassword"),
            (cluster.annotations[_NAMESPACE_ANNOTATION], "externalStorageNamespace"),
        ]
    for field, instead in moved:
        if field is not None and field.filled:
            yield field.problem(
                "is not where fault tolerance is configured.",
                f"Use {options.path}.{instead}.",
            )
    annotation = cluster.annotations[_FT_ANNOTATION]
    if options.given and annotation.filled:
        yield annotation.problem(
            "stands beside gcsFaultToleranceOptions.", "Leave the annotation out."
        )


@rule(11, "head state store")
def store(cluster: RayCluster) -> Iterator[Problem]:
    """Rule 11: rocksdb needs its gate and no Redis; Redis needs an address and no storage."""
    options = cluster.spec["gcsFaultToleranceOptions"]
    if not options.given:
        return
    if options["backend"].text == "rocksdb":
        yield from _rocksdb(cluster, options)
        yield from _storage(options["storage"])
        return
    if not options["redisAddress"].filled:
        yield options["redisAddress"].problem("is missing.", "Write such as redis:6379.")
    if options["storage"].given:
        yield options["storage"].problem(
            "is only for the backend rocksdb.", "Leave it out, or set backend: rocksdb."
        )


def _rocksdb(cluster: RayCluster, options: Field) -> Iterator[Problem]:
    if ROCKSDB_GATE not in cluster.gates:
        yield options["backend"].problem(
            f"'rocksdb' needs the operator's feature gate {ROCKSDB_GATE}, which is off.",
            "Turn the gate on, or use Redis.",
        )
    if cluster.spec["rayVersion"].filled and (old := cluster.older_than(_ROCKSDB_SINCE)):
        yield options["backend"].problem(f"'rocksdb' needs Ray 2.57, but {old}.")
    for name in _REDIS_FIELDS:
        if options[name].filled:
            yield options[name].problem("is Redis's, but the backend is rocksdb.", "Leave it out.")
    for name in _ROCKSDB_ENV:
        if (entry := cluster.head.env(name)) is not None:
            yield entry.problem(f"{name} is set by the operator.", "Leave it out.")


def _storage(storage: Field) -> Iterator[Problem]:
    if storage["claimName"].filled:
        for name in ("size", "storageClassName", "accessModes"):
            if storage[name].filled:
                yield storage[name].problem(
                    "is for a claim that the operator makes, but claimName names one.",
                    "Keep one of the two.",
                )
    size = amount(storage["size"].value)
    if size is not None and size <= 0:
        yield storage["size"].problem(f"{storage['size'].shown} is not more than 0.")
    for mode in storage["accessModes"].items():
        if mode.text not in _ACCESS_MODES:
            yield mode.problem(f"{mode.shown} is none of {', '.join(_ACCESS_MODES)}.")


RULES = (said_once, store)
