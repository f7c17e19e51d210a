"""What the checks of a Kubernetes cluster read, each list once."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING

from eksml.backends.why import Object

if TYPE_CHECKING:
    from eksml.backends.kube.client import KubeClient

_PATIENCE_S = 3.0


class View:
    """One Kubernetes, as it is during one ``doctor``. Threads may share it."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._lists: dict[str, list[Object]] = {}

    @classmethod
    def connect(cls) -> View:
        """The Kubernetes of the kubeconfig, or of this pod.

        Raises:
            ClusterError: none is configured.
        """
        from eksml.backends.kube.client import KubeClient

        return cls(KubeClient.connect(patience_s=_PATIENCE_S))

    def all(self, api_version: str, kind: str) -> list[Object]:
        """All objects of a kind; empty if there is no such kind.

        Raises:
            ClusterError: the API server refuses, or does not answer.
        """
        from eksml.backends.kube.refusals import NotServed

        with self._locks[kind]:
            if kind not in self._lists:
                try:
                    self._lists[kind] = list(self._client.list(api_version, kind).items)
                except NotServed:
                    self._lists[kind] = []
            return self._lists[kind]

    def has(self, api_version: str, kind: str) -> bool:
        """Whether this Kubernetes has such a kind.

        Raises:
            ClusterError: the API server refuses, or does not answer.
        """
        from eksml.backends.kube.refusals import NotServed

        try:
            self._client.collection(api_version, kind, None)
        except NotServed:
            return False
        return True

    def definition(self, name: str) -> Object | None:
        """A CustomResourceDefinition, such as ``rayclusters.ray.io``.

        Raises:
            ClusterError: the API server refuses, or does not answer.
        """
        from eksml.backends.kube.objects import Ref

        ref = Ref("apiextensions.k8s.io/v1", "CustomResourceDefinition", name)
        return self._client.get(ref)
