"""What a pod asks its node for, as the scheduler counts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eksml.cluster.rules.quantity import amount

AUTOSCALER = {"cpu": 0.5, "memory": 512.0 * 1024**2}
"""KubeRay's default size of the autoscaler's container, which the operator adds to the head."""


def requests(template: Mapping[str, Any]) -> dict[str, float]:
    """Requests of a pod made from ``template``: CPUs, bytes, devices; by Kubernetes' names.

    The sum over the containers, or one init container's if that is more. A sidecar (an init
    container that always restarts) counts with the containers.
    """
    spec = template.get("spec") or {}
    total: dict[str, float] = dict(_requests({"resources": {"requests": spec.get("overhead")}}))
    for container in spec.get("containers") or ():
        _add(total, _requests(container))
    before: dict[str, float] = {}
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            _add(total, _requests(container))
        else:
            _most(before, _requests(container))
    _most(total, before)
    return {name: asked for name, asked in total.items() if asked}


def _requests(container: Mapping[str, Any]) -> dict[str, float]:
    resources = container.get("resources") or {}
    # A resource with a limit and no request is requested as much
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: float(amount(quantity) or 0) for name, quantity in asked.items()}


def _add(total: dict[str, float], more: Mapping[str, float]) -> None:
    for name, asked in more.items():
        total[name] = total.get(name, 0.0) + asked


def _most(total: dict[str, float], other: Mapping[str, float]) -> None:
    for name, asked in other.items():
        total[name] = max(total.get(name, 0.0), asked)
