"""A Deployment or DaemonSet as the checks look at it: is it there, which version, is it up?"""

from __future__ import annotations

import re
from collections.abc import Iterable

from eksml.backends.why.reason import Object, at

_VERSION = re.compile(r"v?(\d+(?:\.\d+)+)")


def runs(things: Iterable[Object], *images: str) -> Object | None:
    """The first whose name or image holds one of the words."""
    for thing in things:
        names = [str(at(thing, "metadata", "name")), *(_images(thing))]
        if any(word in name for word in images for name in names):
            return thing
    return None


def version_of(thing: Object) -> str | None:
    """Its version, by the image's tag, else by the chart that installed it; None: not told."""
    labels = at(thing, "metadata", "labels") or {}
    tags = [
        image.rpartition("/")[2].partition("@")[0].partition(":")[2] for image in _images(thing)
    ]
    told = [
        *tags,
        str(labels.get("app.kubernetes.io/version") or ""),
        str(labels.get("helm.sh/chart") or "").rpartition("-")[2],
    ]
    return next((match[1] for tag in told if (match := _VERSION.match(tag))), None)


def arguments(thing: Object) -> list[str]:
    """The command and arguments of all its containers."""
    return [
        str(word)
        for container in _containers(thing)
        for field in ("command", "args")
        for word in container.get(field) or ()
    ]


def missing_pods(thing: Object) -> int:
    """How many of its pods are not ready."""
    status = thing.get("status") or {}
    if thing.get("kind") == "DaemonSet":
        wanted, ready = status.get("desiredNumberScheduled"), status.get("numberReady")
    else:
        wanted, ready = at(thing, "spec", "replicas"), status.get("readyReplicas")
    return max(0, int(1 if wanted is None else wanted) - int(ready or 0))


def place_of(thing: Object) -> str:
    """``namespace/name``."""
    return f"{at(thing, 'metadata', 'namespace')}/{at(thing, 'metadata', 'name')}"


def older(version: str, floor: str) -> bool:
    """Whether a version is before another, number by number."""
    return _numbers(version) < _numbers(floor)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("-")[0]))


def _images(thing: Object) -> list[str]:
    return [str(container.get("image") or "") for container in _containers(thing)]


def _containers(thing: Object) -> list[Object]:
    return list(at(thing, "spec", "template", "spec", "containers") or ())
