"""What is valid and still never runs on EKS: sizes that the autoscaler can't see, selectors on
labels that no pod has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from eksml.cluster.rules.containers import env_problems
from eksml.cluster.rules.field import Field, rule
from eksml.cluster.rules.groups import HEAD_GROUP
from eksml.cluster.rules.ray_cluster import Group, RayCluster
from eksml.cluster.rules.requests import asked_for, resource_problems
from eksml.cluster.rules.volumes import mount_problems
from eksml.cluster.vocabulary import NEURON_CORES, NEURON_DEVICES
from eksml.errors import Problem

_OPERATORS = ("app.kubernetes.io/name", "app.kubernetes.io/created-by")
"""Labels that the operator sets on every pod of Ray, beside those below ``ray.io/``."""


@rule(None, "sizes for the autoscaler")
def sizes(cluster: RayCluster) -> Iterator[Problem]:
    """The autoscaler stops if it can't tell a group's CPUs, and sees no Neuron device by itself."""
    for group in cluster.groups if cluster.autoscaled else ():
        stated = group.field["resources"]
        if not (
            stated["CPU"].filled or group.params["num-cpus"].filled or asked_for(group.ray, "cpu")
        ):
            yield group.ray["resources"].problem(
                f"says no CPUs of group {group.name!r}, and the autoscaler stops without.",
                "Write limits.cpu, or resources.CPU of the group.",
            )
        devices = [name for name in (NEURON_DEVICES, NEURON_CORES) if asked_for(group.ray, name)]
        if devices and not _says_neuron_cores(group):
            yield stated.problem(
                f"says no neuron_cores, and the autoscaler does not read {devices[0]}: the group "
                "never grows from 0.",
                'Write such as {"CPU": "96", "memory": "400Gi", "neuron_cores": "32"}.',
            )


def _says_neuron_cores(group: Group) -> bool:
    if group.field["resources"]["neuron_cores"].filled:
        return True
    # rayStartParams holds JSON within quotes, the inner ones escaped, for a shell reads it.
    text = group.params["resources"].text.strip("'\"").replace("\\", "")
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "neuron_cores" in found


@rule(None, "pod selectors")
def selectors(cluster: RayCluster) -> Iterator[Problem]:
    """What spreads a group's pods selects labels that these pods have."""
    for group in cluster.groups:
        labels = group.template["metadata"]["labels"].entries()
        for entry in group.template["spec"]["topologySpreadConstraints"].items():
            selector = entry["labelSelector"]
            if not selector.filled:
                yield selector.problem("is missing, so that no pod counts.", "Select the group.")
            for key, value in selector["matchLabels"].entries().items():
                yield from _selects(cluster, group, key, value, labels)


def _selects(
    cluster: RayCluster, group: Group, key: str, value: Field, labels: Mapping[str, Field]
) -> Iterator[Problem]:
    has: str | None = labels[key].text if key in labels else None
    if key == "ray.io/group":
        has = HEAD_GROUP if group is cluster.head else group.name
    elif key == "ray.io/cluster":
        has = cluster.name or None
    elif key == "ray.io/node-type":
        has = "head" if group is cluster.head else "worker"
    elif has is None and (key in _OPERATORS or key.startswith("ray.io/")):
        return
    if has is None:
        yield value.problem(
            f"{key!r:.80} is a label that nobody sets on these pods, or not to this value.",
            "Set it in the template's metadata.labels, or select by ray.io/group.",
        )
    elif has != value.text:
        yield value.problem(f"{value.shown} is not these pods' {key}: {has!r:.80}.", "Select that.")


@rule(None, "the operator's containers")
def side_containers(cluster: RayCluster) -> Iterator[Problem]:
    """The autoscaler's and the log collector's containers are held to the rules of a pod's."""
    scaler = cluster.spec["autoscalerOptions"]
    collector = cluster.spec["historyServerOptions"]["collectorOptions"]
    for container in (scaler, collector):
        yield from env_problems(container)
        yield from resource_problems(container["resources"])
    yield from mount_problems(scaler, cluster.head.template["spec"]["volumes"])
    if cluster.spec["historyServerOptions"].given and not collector["image"].filled:
        yield collector["image"].problem("is missing.", "Name the collector's image.")


RULES = (sizes, selectors, side_containers)
