"""Checks of device plugins: they run, and nodes with devices offer them."""

from __future__ import annotations

from dataclasses import dataclass

from eksml.backends.why.reason import Object, at, name_of
from eksml.cli.checks.finding import Finding
from eksml.cli.checks.workload import missing_pods, place_of, runs, version_of
from eksml.cluster import vocabulary
from eksml.cluster.catalogue import Instance, instances
from eksml.cluster.placement import INSTANCE_TYPE


@dataclass(frozen=True)
class Device:
    """A kind of device, and what makes nodes offer it."""

    title: str
    resource: str
    """As nodes offer it."""
    plugins: tuple[str, ...]
    """Words in the name or image of its DaemonSet."""
    install: str

    def count(self, instance: Instance) -> int:
        """How many an instance has."""
        if self.resource == vocabulary.GPU:
            return instance.gpu.count if instance.gpu else 0
        if self.resource == vocabulary.NEURON_DEVICES:
            return instance.neuron.devices if instance.neuron else 0
        return instance.efa


NVIDIA = Device(
    "NVIDIA plugin",
    vocabulary.GPU,
    ("nvidia-device-plugin", "k8s-device-plugin", "gpu-operator"),
    "helm upgrade --install nvdp nvdp/nvidia-device-plugin -n kube-system",
)
NEURON = Device(
    "Neuron plugin",
    vocabulary.NEURON_DEVICES,
    ("neuron-device-plugin",),
    "helm upgrade --install neuron oci://public.ecr.aws/neuron/neuron-helm-chart -n kube-system",
)
EFA = Device(
    "EFA plugin",
    vocabulary.EFA,
    ("efa-device-plugin", "efa-k8s-device-plugin"),
    "helm upgrade --install efa eks/aws-efa-k8s-device-plugin -n kube-system",
)
DEVICES = (NVIDIA, NEURON, EFA)


def plugin(device: Device, daemonsets: list[Object], nodes: list[Object]) -> Finding:
    """Whether nodes that have such devices offer them, or would.

    Nodes that do not ask for EFA have no EFA, whatever their type could: only a node that offers
    some is known to have it.
    """
    found = runs(daemonsets, *device.plugins)
    offering = [node for node in nodes if _offered(node, device)]
    silent = [name_of(node) for node in nodes if device is not EFA and _silent(node, device)]
    if silent:
        told = f"{len(silent)} nodes have {device.resource} and do not offer it: {silent[0]}"
        more = " and others" if len(silent) > 1 else ""
        remedy = device.install if found is None else f"kubectl logs -n {_daemonset(found)}"
        return Finding("fail", told + more, remedy)
    offered = f"{len(offering)} nodes offer {device.resource}"
    if found is None:
        if offering:  # by what the nodes bring along, as in EKS Auto Mode
            return Finding("ok", offered)
        return Finding("warn", f"no plugin runs for {device.resource}", device.install)
    version = version_of(found) or "of an unknown version"
    if missing := missing_pods(found):
        told = f"{place_of(found)} {version}: {missing} pods are not ready"
        return Finding("warn", told, f"kubectl describe -n {_daemonset(found)}")
    return Finding("ok", f"{version} ({place_of(found)}); {offered}")


def _daemonset(thing: Object) -> str:
    namespace, _, name = place_of(thing).partition("/")
    return f"{namespace} daemonset/{name}"


def _silent(node: Object, device: Device) -> bool:
    known = instances().get(str(at(node, "metadata", "labels", INSTANCE_TYPE)))
    return bool(known and device.count(known) and not _offered(node, device))


def _offered(node: Object, device: Device) -> int:
    return int(at(node, "status", "allocatable", device.resource) or 0)
