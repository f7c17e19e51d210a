"""Clusters on EKS, and on any Kubernetes that KubeRay's operator watches."""

from eksml.backends.kube.backend import KubeBackend
from eksml.backends.kube.running import KubeRunning

__all__ = ["KubeBackend", "KubeRunning"]
