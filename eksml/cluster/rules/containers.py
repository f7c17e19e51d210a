"""Rule 16: the containers of a pod."""

from __future__ import annotations

import re
from collections.abc import Iterator

from eksml.cluster.rules.field import Field, rule
from eksml.cluster.rules.pod import Pod, doubled
from eksml.cluster.syntax import DNS_1123, is_dns_1123
from eksml.errors import Problem

_PORT_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOKS = ("exec", "httpGet", "tcpSocket", "sleep")
_ENV_SOURCES = ("configMapKeyRef", "fieldRef", "fileKeyRef", "resourceFieldRef", "secretKeyRef")


@rule(16, "pod: containers")
def containers(pod: Pod) -> Iterator[Problem]:
    """Rule 16: each container has a name of its own and an image."""
    named = [container["name"] for container in pod.containers if container["name"].text]
    yield from doubled(named, [name.text for name in named], "name")
    for container in pod.containers:
        name, image = container["name"], container["image"]
        if name.given and not is_dns_1123(name.text):
            yield name.problem(f"{name.shown} is not a DNS-1123 name.", DNS_1123)
        if not image.text.strip():
            yield image.problem("is missing.", "Name an image with its tag.")
        elif image.text != image.text.strip():
            yield image.problem(f"{image.shown} begins or ends with a space.")


@rule(16, "pod: environment")
def environment(pod: Pod) -> Iterator[Problem]:
    """Rule 16: each variable has a name of its own and at most one value."""
    for container in pod.containers:
        yield from env_problems(container)


def env_problems(container: Field) -> Iterator[Problem]:
    """What is wrong with the environment of a container."""
    entries = container["env"].items()
    names = [entry["name"] for entry in entries if entry["name"].text]
    yield from doubled(names, [name.text for name in names], "name")
    for entry in entries:
        name, source = entry["name"], entry["valueFrom"]
        if name.given and (
            "=" in name.text or not (name.text.isascii() and name.text.isprintable())
        ):
            yield name.problem(f"{name.shown} is not a name of a variable.")
        if name.value == "":
            yield name.problem("is empty.")
        if source.given and entry["value"].filled:
            yield source.problem("stands beside value.", "Keep one of the two.")
        if source.given and sum(source[kind].given for kind in _ENV_SOURCES) != 1:
            yield source.problem("needs exactly one source.", f"One of {', '.join(_ENV_SOURCES)}.")


@rule(16, "pod: ports")
def ports(pod: Pod) -> Iterator[Problem]:
    """Rule 16: ports are within range, and neither they nor their names stand twice."""
    for container in pod.containers:
        entries = container["ports"].items()
        keys = [
            (entry["containerPort"].whole, entry["protocol"].text or "TCP") for entry in entries
        ]
        yield from doubled(entries, keys, "port")
        named = [entry["name"] for entry in entries if entry["name"].text]
        yield from doubled(named, [name.text for name in named], "name")
        for entry in entries:
            for name in ("containerPort", "hostPort"):
                port = entry[name].whole
                if port is not None and not 1 <= port <= 65535:
                    yield entry[name].problem(f"{port} is not between 1 and 65535.")
            name_field = entry["name"]
            if name_field.given and not _PORT_NAME.fullmatch(name_field.text):
                yield name_field.problem(
                    f"{name_field.shown} is not the name of a port.",
                    "Use at most 15 of a–z 0–9 and '-'.",
                )


@rule(16, "pod: probes and hooks")
def probes(pod: Pod) -> Iterator[Problem]:
    """Rule 16: a probe or hook does exactly one thing."""
    for container in pod.containers:
        lifecycle = container["lifecycle"]
        for field, kinds in (
            *((container[name], _HANDLERS) for name in _PROBES),
            *((lifecycle[name], _HOOKS) for name in ("preStop", "postStart")),
        ):
            if field.given and sum(field[kind].given for kind in kinds) != 1:
                yield field.problem("does not do exactly one thing.", f"One of {', '.join(kinds)}.")
            if field["exec"].given and not field["exec"]["command"].filled:
                yield field["exec"]["command"].problem("is missing.")


RULES = (containers, environment, ports, probes)
