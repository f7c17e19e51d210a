"""Where clusters run. Each backend gives the same thing: the address of a Ray Jobs API.

>>> from eksml import Cluster, cpu
>>> with Cluster(name="mine", groups=(cpu(nodes=2),)).up() as running:   # doctest: +SKIP
...     print(running.status())
"""

from __future__ import annotations

import sys
from pathlib import Path

from eksml.backends.base import Backend, NodeStatus, Running, Status
from eksml.cluster import Cluster
from eksml.errors import ClusterInUse, ClusterNotUp, InvalidSpec, Problem

__all__ = ["Backend", "NodeStatus", "Running", "Status", "find", "list_up", "of", "up"]

_YAML = (".yaml", ".yml")


def up(
    cluster: Cluster,
    *,
    detach: bool = False,
    timeout_s: float | None = None,
    progress: bool | None = None,
    keep: bool = False,
    force: bool = False,
    client: object | None = None,
) -> Running:
    """Start a cluster, and wait until all its nodes have joined and the Jobs API answers.

    If an equal cluster is up already, that one is returned. A local cluster ends with the calling
    process, however that ends, unless ``detach``. One on EKS stays until ``down()``, or the end
    of a ``with`` block around it. ``timeout_s`` None: 180 s, and 900 s on EKS, where nodes have to
    be bought and images pulled. ``progress``: a line at the terminal; None: if stderr is one.

    On EKS only: ``keep`` leaves in place what a failed start created; ``force`` takes over fields
    that another manager owns; ``client`` is a ``RayClusterApi`` of KubeRay's Python client, through
    which the RayCluster is then created and deleted.

    Raises:
        ClusterInUse: another cluster of that name is up.
        ClusterStartFailed: a node did not come up; the text ends with what it said.
        ClusterError: Kubernetes refuses, or does not answer.
        InvalidSpec: the backend cannot run such a specification, or an argument has no effect.
    """
    shown = sys.stderr.isatty() if progress is None else progress
    if cluster.backend == "eks":
        from eksml.backends.kube import KubeBackend

        return KubeBackend().up(
            cluster,
            detach=detach,
            timeout_s=timeout_s,
            progress=shown,
            keep=keep,
            force=force,
            client=client,
        )
    given = {"keep": keep, "force": force, "client": client is not None}
    if unused := [name for name, value in given.items() if value]:
        problems = [Problem(name, "has no effect with backend: local.") for name in unused]
        raise InvalidSpec(problems, subject="the call")
    backend = _backend(cluster.backend)
    return backend.up(cluster, detach=detach, timeout_s=timeout_s, progress=shown)


def find(name: str) -> Running | None:
    """The cluster of that name, if it is up: a local one, else one on the configured Kubernetes.

    Raises:
        ClusterError: it is not a local one, and Kubernetes cannot be asked.
    """
    found = (_backend(kind).find(name) for kind in _reachable())
    return next((running for running in found if running is not None), None)


def list_up() -> list[Running]:
    """All clusters of this user that are up: local ones, and those on the configured Kubernetes."""
    return [running for kind in _reachable() for running in _backend(kind).list_up()]


def of(cluster: Cluster | Running | str | Path | None) -> Running | None:
    """The running cluster that is meant: the one place that chooses.

    A specification, the path of its YAML file, a name, a handle, or the ``http://…`` address of
    a Jobs API, whose token comes from RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH. None stays None:
    the caller's own Ray.

    Raises:
        ClusterNotUp: it is not up, or nobody answers there.
        ClusterInUse: a cluster of that name is up, with another specification.
        InvalidSpec: the YAML file is wrong.
        ClusterError: the token is missing or refused.
    """
    if cluster is None or isinstance(cluster, Running):
        return cluster
    if isinstance(cluster, Cluster):
        return _of_spec(cluster, "`with cluster.up():`")
    text = str(cluster)
    if text.startswith(("http://", "https://")):
        from eksml.backends.remote import RemoteRunning

        return RemoteRunning(text)
    if isinstance(cluster, Path) or text.endswith(_YAML):
        return _of_spec(Cluster.load(text), f"`eksml up {text}`")
    found = find(text)
    if found is None:
        names = ", ".join(running.name for running in list_up()) or "none"
        raise ClusterNotUp(
            f"No cluster named {text!r} is up (up: {names}). Start it with `eksml up <its YAML>`."
        )
    return found


def _of_spec(cluster: Cluster, remedy: str) -> Running:
    place = f"{cluster.namespace}/" if cluster.backend == "eks" else ""
    found = _backend(cluster.backend).find(place + cluster.name)
    if found is None:
        raise ClusterNotUp(f"Cluster {cluster.name!r} is not up. Start it with {remedy}.")
    if found.spec not in (cluster, None):  # None: applied from what `eksml render` printed
        raise ClusterInUse(
            f"The cluster named {cluster.name!r} that is up has another specification. "
            f"Take it down with `eksml down {cluster.name}`, or use the name alone."
        )
    return found


def _reachable() -> tuple[str, ...]:
    """The backends whose clusters this process can know of, in the order of looking names up."""
    from eksml.backends.kube import is_configured

    return ("local", "eks") if is_configured() else ("local",)


def _backend(kind: str) -> Backend:
    if kind == "eks":
        from eksml.backends.kube import KubeBackend

        return KubeBackend()
    from eksml.backends.local import LocalBackend

    return LocalBackend()
