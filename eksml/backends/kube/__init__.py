"""Clusters on EKS, and on any Kubernetes that KubeRay's operator watches.

Names are imported at first use: whoever has no Kubernetes configured only finds that out here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from eksml.backends.kube.config import is_configured

__all__ = ["KubeBackend", "KubeRunning", "is_configured"]

if TYPE_CHECKING:
    from eksml.backends.kube.backend import KubeBackend as KubeBackend
    from eksml.backends.kube.running import KubeRunning as KubeRunning

_HOMES = {
    "KubeBackend": "eksml.backends.kube.backend",
    "KubeRunning": "eksml.backends.kube.running",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
