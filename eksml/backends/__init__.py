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
from eksml.errors import ClusterError, ClusterInUse, ClusterNotUp

__all__ = ["Backend", "NodeStatus", "Running", "Status", "find", "list_up", "of", "up"]

_YAML = (".yaml", ".yml")


def up(
    cluster: Cluster,
    *,
    detach: bool = False,
    timeout_s: float = 180,
    progress: bool | None = None,
) -> Running:
    """Start a cluster, and wait until all its nodes have joined and the Jobs API answers.

    The cluster ends with the calling process, however that ends, unless ``detach``. If an equal
    cluster is up already, that one is returned. ``progress``: a line at the terminal; None: if
    stderr is one.

    Raises:
        ClusterInUse: another cluster of that name is up.
        ClusterStartFailed: a node did not come up; the text ends with what it said.
        InvalidSpec: the backend cannot run such a specification.
    """
    shown = sys.stderr.isatty() if progress is None else progress
    backend = _backend(cluster.backend)
    return backend.up(cluster, detach=detach, timeout_s=timeout_s, progress=shown)


def find(name: str) -> Running | None:
    """The cluster of that name, if it is up."""
    return _backend("local").find(name)


def list_up() -> list[Running]:
    """All clusters of this user that are up."""
    return _backend("local").list_up()


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
    found = _backend(cluster.backend).find(cluster.name)
    if found is None:
        raise ClusterNotUp(f"Cluster {cluster.name!r} is not up. Start it with {remedy}.")
    if found.spec != cluster:
        raise ClusterInUse(
            f"The cluster named {cluster.name!r} that is up has another specification. "
            f"Take it down with `eksml down {cluster.name}`, or use the name alone."
        )
    return found


def _backend(kind: str) -> Backend:
    if kind != "local":
        raise ClusterError(f"The backend {kind!r} is not there yet; backend: local is.")
    from eksml.backends.local import LocalBackend

    return LocalBackend()
