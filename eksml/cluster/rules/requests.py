"""Rule 16: what containers ask of a node. Devices and huge pages cannot be shared or overbooked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

from eksml.cluster.rules.field import Field, rule
from eksml.cluster.rules.pod import Pod
from eksml.cluster.rules.quantity import amount
from eksml.cluster.syntax import is_label_key, nearest
from eksml.cluster.vocabulary import EFA, GPU, HUGE_PAGES, NEURON_CORES, NEURON_DEVICES
from eksml.errors import Problem

_NATIVE = ("cpu", "memory", "ephemeral-storage")
_DEVICES = {
    "nvidia.com": re.compile(r"gpu(\.shared)?|mig-\w+\.\w+gb(\.\w+)*"),
    "aws.amazon.com": re.compile(r"neuron|neuroncore|neurondevice"),
    "vpc.amazonaws.com": re.compile(r"efa|pod-eni|PrivateIPv4Address"),
}
_KNOWN_DEVICES = (GPU, EFA, NEURON_DEVICES, NEURON_CORES)


@rule(16, "pod: resources")
def resources(pod: Pod) -> Iterator[Problem]:
    """Rule 16: amounts are possible, and devices are asked for in whole numbers with a limit that
    equals the request."""
    for container in pod.containers:
        yield from resource_problems(container["resources"])
        claims = {claim["name"].text for claim in pod.spec["resourceClaims"].items()}
        for claim in container["resources"]["claims"].items():
            if claim["name"].text not in claims:
                yield claim.problem("is none of the pod's resourceClaims.")


@rule(16, "pod: EFA")
def efa(pod: Pod) -> Iterator[Problem]:
    """Rule 16: EFA's library takes huge pages, and without a limit on them it gets none."""
    for container in pod.containers:
        limits = container["resources"]["limits"]
        if (amount(limits[EFA].value) or 0) > 0 and not amount(limits[HUGE_PAGES].value):
            yield limits.problem(
                f"asks for {EFA} without {HUGE_PAGES}.", f"Add {HUGE_PAGES}: 5120Mi."
            )


def resource_problems(resources: Field) -> Iterator[Problem]:
    """What is wrong with the requests and limits of one container."""
    requests, limits = resources["requests"].entries(), resources["limits"].entries()
    for name, field in (*requests.items(), *limits.items()):
        yield from _name(name, field)
        yield from _amount(name, field)
    for name, request in requests.items():
        asked, limit = amount(request.value), limits.get(name)
        if asked is None:
            continue
        if _exclusive(name) and limit is None:
            yield request.problem(
                f"{request.shown} has no limit, and {name} is never overbooked.",
                "Write it under limits (the request follows).",
            )
        most = amount(limit.value) if limit else None
        if most is None:
            continue
        if _exclusive(name) and asked != most:
            yield request.problem(
                f"{request.shown} is not the limit, which is {most}, and {name} is never "
                "overbooked.",
                "Write it under limits alone.",
            )
        elif asked > most:
            yield request.problem(f"{request.shown} is more than the limit {limits[name].shown}.")
    huge = next((f for n, f in limits.items() if n.startswith("hugepages-")), None)
    if huge and not {"cpu", "memory"} & (requests.keys() | limits.keys()):
        yield huge.problem("needs cpu or memory beside it.", "Ask for memory too.")


def _exclusive(name: str) -> bool:
    return "/" in name or name.startswith("hugepages-")


def _amount(name: str, field: Field) -> Iterator[Problem]:
    value = amount(field.value)
    if value is None:
        return
    if value < 0:
        yield field.problem(f"{field.shown} is less than 0.")
    elif "/" in name and value.denominator != 1:
        yield field.problem(f"{field.shown} is not a whole number.", "Devices are not divided.")
    elif name in ("memory", "ephemeral-storage") and value.denominator != 1:
        yield field.problem(f"{field.shown} is a part of one byte.", "Write such as 512Mi.")
    elif name.startswith("hugepages-"):
        page = amount(name.partition("-")[2])
        if page and (value / page).denominator != 1:
            yield field.problem(f"{field.shown} is not a multiple of {name.partition('-')[2]}.")


def _name(name: str, field: Field) -> Iterator[Problem]:
    domain, slash, device = name.rpartition("/")
    if not slash:
        if name not in _NATIVE and not (
            name.startswith("hugepages-") and (amount(name.partition("-")[2]) or 0) > 0
        ):
            remedy = nearest(name, (*_NATIVE, *_KNOWN_DEVICES), "Devices are written domain/name.")
            yield field.problem(f"{name!r:.80} is not a resource of Kubernetes.", remedy)
    elif not is_label_key(name):
        yield field.problem(f"{name!r:.80} is not the name of a resource.")
    elif domain in _DEVICES and not _DEVICES[domain].fullmatch(device):
        remedy = nearest(name, _KNOWN_DEVICES)
        yield field.problem(f"{name!r:.80} is offered by no device plugin.", remedy)


def asked_for(container: Field, resource: str) -> Fraction:
    """How much of ``resource`` a container asks for."""
    resources = container["resources"]
    for section in ("limits", "requests"):
        if (value := amount(resources[section][resource].value)) is not None:
            return value
    return Fraction(0)


RULES = (resources, efa)
