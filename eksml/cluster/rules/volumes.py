"""Rule 16: the volumes of a pod and where they are mounted."""

from __future__ import annotations

from collections.abc import Iterator

from eksml.cluster.rules.field import Field, rule
from eksml.cluster.rules.pod import Pod, doubled
from eksml.cluster.rules.quantity import amount
from eksml.cluster.syntax import DNS_1123, is_dns_1123, is_subdomain, nearest
from eksml.errors import Problem

_NAMED_SOURCES = (
    ("persistentVolumeClaim", "claimName"),
    ("secret", "secretName"),
    ("configMap", "name"),
)


@rule(16, "pod: volumes")
def volumes(pod: Pod) -> Iterator[Problem]:
    """Rule 16: each volume has a name of its own and exactly one source."""
    entries = pod.spec["volumes"].items()
    named = [entry["name"] for entry in entries if entry["name"].text]
    yield from doubled(named, [name.text for name in named], "name")
    for entry in entries:
        name = entry["name"]
        if name.given and not is_dns_1123(name.text):
            yield name.problem(f"{name.shown} is not a DNS-1123 name.", DNS_1123)
        sources = sorted(set(entry.entries()) - {"name"})
        if len(sources) != 1:
            yield entry.problem(
                f"has {len(sources)} sources{': ' if sources else ''}{', '.join(sources)}.",
                "Write exactly one, such as emptyDir: {}.",
            )
        yield from _source(entry)


def _source(volume: Field) -> Iterator[Problem]:
    for kind, key in _NAMED_SOURCES:
        if volume[kind].given and not is_subdomain(volume[kind][key].text):
            name = volume[kind][key]
            yield name.problem(f"{name.shown} cannot name an object.", DNS_1123)
    for kind, key in (("csi", "driver"), ("hostPath", "path"), ("nfs", "server")):
        if volume[kind].given and volume[kind][key].value == "":
            yield volume[kind][key].problem("is empty.")
    empty_dir = volume["emptyDir"]
    medium, size = empty_dir["medium"].text, amount(empty_dir["sizeLimit"].value)
    if medium not in ("", "Memory") and not medium.startswith("HugePages"):
        yield empty_dir["medium"].problem(
            f"{medium!r:.80} is none of Memory, HugePages.",
            nearest(medium, ("Memory", "HugePages")),
        )
    if size is not None and size < 0:
        yield empty_dir["sizeLimit"].problem(f"{empty_dir['sizeLimit'].shown} is less than 0.")


@rule(16, "pod: mounts")
def mounts(pod: Pod) -> Iterator[Problem]:
    """Rule 16: a mount is of a volume that is there, at a path of its own."""
    for container in pod.containers:
        yield from mount_problems(container, pod.spec["volumes"])


def mount_problems(container: Field, volumes: Field) -> Iterator[Problem]:
    """What is wrong with a container's mounts of the pod's ``volumes``."""
    known = {entry["name"].text for entry in volumes.items()}
    entries = container["volumeMounts"].items()
    paths = [entry["mountPath"] for entry in entries if entry["mountPath"].text]
    yield from doubled(paths, [path.text.rstrip("/") for path in paths], "path")
    for entry in (*entries, *container["volumeDevices"].items()):
        name = entry["name"]
        if name.given and name.text not in known:
            listed = ", ".join(sorted(known)) or "none"
            remedy = nearest(name.text, known, f"The pod's volumes: {listed}.")
            yield name.problem(f"{name.shown} is no volume of this pod.", remedy)
    for entry in entries:
        path, sub = entry["mountPath"], entry["subPath"]
        if path.given and (not path.text or ":" in path.text):
            yield path.problem(f"{path.shown} is not a path to mount at.")
        if sub.filled and (sub.text.startswith("/") or ".." in sub.text.split("/")):
            yield sub.problem(f"{sub.shown} leads out of the volume.", "Write a relative path.")
        if sub.filled and entry["subPathExpr"].filled:
            yield sub.problem("stands beside subPathExpr.", "Keep one of the two.")


RULES = (volumes, mounts)
