"""A fake Kubernetes API server, for tests of the kube backend.

It is a fake: no real Kubernetes and no KubeRay run in these tests, since none can be had where
they run. What it does is real where the backend could be wrong about it: HTTP, JSON, watches,
server-side apply with owners of fields, KubeRay's own CRDs as schemas, websockets. What it makes
up is the operator, the scheduler and the kubelet: pods get ready, or fail, as a script says.
"""

from kube_server.dashboard import FakeDashboard
from kube_server.operator import FakeOperator, Script
from kube_server.server import KubeServer

__all__ = ["FakeDashboard", "FakeOperator", "KubeServer", "Script"]
