"""Which Kubernetes: the kubeconfig's current context, else the cluster that this pod runs in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eksml.errors import ClusterError

_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError)
"""What the client raises for a kubeconfig whose YAML means something else."""
_REMEDY = (
    "`aws eks update-kubeconfig --name <cluster>` writes a kubeconfig; KUBECONFIG names another."
)


@dataclass(frozen=True)
class Access:
    """How to reach one Kubernetes."""

    configuration: Any
    """A ``kubernetes.client.Configuration``."""
    namespace: str
    """The context's namespace, where nothing else is said."""
    in_cluster: bool
    """Whether this process runs inside it, so that its services have names here."""


def is_configured() -> bool:
    """Whether this process knows of a Kubernetes. Costs the look at one or two file names."""
    return bool(_kubeconfig()) or _in_pod()


def identity() -> tuple[object, ...]:
    """Equal while :func:`load` would give the same access."""
    files = _kubeconfig().split(os.pathsep)
    return tuple((path, os.stat(path).st_mtime_ns) for path in files if path)


def load() -> Access:
    """Read the configuration. A kubeconfig goes before the pod's own account, as for kubectl.

    Costs a second where the kubeconfig asks ``aws`` for a token.

    Raises:
        ClusterError: There is none, or it is wrong.
    """
    if not is_configured():
        raise ClusterError(f"No Kubernetes is configured here. {_REMEDY}")
    import yaml
    from kubernetes import client, config

    configuration = client.Configuration()
    configuration.retries = False  # our own know which answers may be asked for again
    configuration.keep_alive = True  # load balancers forget silent watches
    files = _kubeconfig()
    try:
        if not files:
            config.load_incluster_config(client_configuration=configuration)
            return Access(configuration, _pod_namespace(), in_cluster=True)
        config.load_kube_config(files, client_configuration=configuration, persist_config=False)
        _, context = config.list_kube_config_contexts(files)
    except (config.ConfigException, yaml.YAMLError, OSError, *_MALFORMED) as error:
        told = f"The Kubernetes configuration {files or _POD} is wrong: {error}."
        raise ClusterError(f"{told} {_REMEDY}") from error
    return Access(configuration, context["context"].get("namespace") or "default", in_cluster=False)


def _kubeconfig() -> str:
    """The files that exist, as KUBECONFIG joins them. (The client reads it once, at import.)"""
    named = os.environ.get("KUBECONFIG") or "~/.kube/config"
    paths = (os.path.expanduser(path) for path in named.split(os.pathsep) if path)
    return os.pathsep.join(path for path in paths if os.path.isfile(path))


def _in_pod() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ and (_POD / "token").is_file()


def _pod_namespace() -> str:
    try:
        return (_POD / "namespace").read_text().strip()
    except OSError:
        return "default"
