"""Rules 2–5: what every group of nodes must be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from eksml.cluster.rules.field import rule
from eksml.cluster.rules.quantity import amount
from eksml.cluster.rules.ray_cluster import RayCluster
from eksml.cluster.syntax import (
    DNS_1123,
    LABEL_KEY,
    LABEL_VALUE,
    is_dns_1123,
    is_label_key,
    is_label_value,
)
from eksml.errors import Problem

HEAD_GROUP = "headgroup"
"""The head's ``ray.io/group``."""

_SIZE_PARAMS = ("num-cpus", "num-gpus", "memory", "resources")
_WHOLE_PARAMS = ("num-cpus", "num-gpus", "memory", "object-store-memory")
_RAYS_NAMES = {"cpu": "CPU", "gpu": "GPU", "memory": "memory", "neuron_cores": "neuron_cores"}


@rule(2, "groups")
def groups(cluster: RayCluster) -> Iterator[Problem]:
    """Rule 2: the head and each group have a container; groups have names of their own."""
    for group in cluster.groups:
        containers = group.template["spec"]["containers"]
        if not containers.filled:
            yield containers.problem("has no container.", "Write Ray's container first.")
    counts = Counter(group.name for group in cluster.workers if group.name)
    for group in cluster.workers:
        name = group.field["groupName"]
        if counts[group.name] > 1:
            yield name.problem(f"{name.shown} names {counts[group.name]} groups.", "Rename one.")
        if group.name == HEAD_GROUP:
            yield name.problem(f"{name.shown} is the head's.", "Choose another name.")
        # The operator lowers the name's case where it builds pod names from it.
        elif name.given and not is_dns_1123(group.name.lower()):
            yield name.problem(f"{name.shown} cannot be part of a pod's name.", DNS_1123)


@rule(3, "replicas")
def replicas(cluster: RayCluster) -> Iterator[Problem]:
    """Rule 3: 0 ≤ minReplicas ≤ replicas ≤ maxReplicas.

    What is not written does not limit: the operator raises ``replicas`` to the minimum.
    """
    names = ("minReplicas", "replicas", "maxReplicas")
    for group in cluster.workers:
        fields = [group.field[name] for name in names]
        for field in fields:
            if field.whole is not None and field.whole < 0:
                yield field.problem(f"{field.shown} is less than 0.")
        written = [field for field in fields if field.whole is not None]
        for index, high in enumerate(written[1:], start=1):
            low = max(written[:index], key=lambda field: field.whole or 0)
            if (low.whole or 0) > (high.whole or 0):
                name = low.path.rpartition(".")[2]
                yield high.problem(
                    f"{high.shown} is less than {name}, which is {low.shown}.",
                    "Keep minReplicas ≤ replicas ≤ maxReplicas.",
                )


@rule(4, "resources")
def resources(cluster: RayCluster) -> Iterator[Problem]:
    """Rule 4: a group's size for Ray is said once: in ``resources`` or in rayStartParams."""
    for group in cluster.groups:
        field = group.field["resources"]
        said = [name for name in _SIZE_PARAMS if group.params[name].filled]
        if field.filled and said:
            yield field.problem(
                f"stands beside {', '.join(said)} in rayStartParams of group {group.name!r}.",
                "Say the size once, in resources.",
            )
        for name, value in field.entries().items():
            right = _RAYS_NAMES.get(name.lower(), name)
            if name != right:
                yield value.problem("is not what Ray calls it.", f"Write {right!r}.")
            if amount(value.value) is None or (amount(value.value) or 0) < 0:
                yield value.problem(f"{value.shown} is not an amount.", "Write such as '8'.")
        for name in _WHOLE_PARAMS:
            value = group.params[name]
            if value.text and not (value.text.isascii() and value.text.isdigit()):
                yield value.problem(
                    f"{value.shown} is not a whole number, and ray start takes no other.",
                    "Write memory in bytes." if "memory" in name else "",
                )


@rule(5, "labels")
def labels(cluster: RayCluster) -> Iterator[Problem]:
    """Rule 5: Ray's labels stand in the group's ``labels`` and are valid Kubernetes labels."""
    for group in cluster.groups:
        param = group.params["labels"]
        if param.given:
            yield param.problem(
                "is not read from rayStartParams.", "Move it to the group's labels."
            )
        for key, value in group.field["labels"].entries().items():
            if not is_label_key(key):
                yield value.problem(f"{key!r:.80} is not the key of a label.", LABEL_KEY)
            if not is_label_value(value.text):
                yield value.problem(f"{value.shown} is not the value of a label.", LABEL_VALUE)


RULES = (groups, replicas, resources, labels)
