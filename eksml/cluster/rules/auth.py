"""Rule 12: token authentication."""

from __future__ import annotations

from collections.abc import Iterator

from eksml.cluster.rules.field import rule
from eksml.cluster.rules.ray_cluster import RayCluster
from eksml.cluster.syntax import DNS_1123, is_subdomain
from eksml.errors import Problem

_TOKEN_SINCE = (2, 52, 0)
_K8S_SINCE = (2, 55, 0)


@rule(12, "authentication")
def authentication(cluster: RayCluster) -> Iterator[Problem]:
    """Rule 12: token mode needs Ray 2.52, said; delegating to Kubernetes needs 2.55, no Secret,
    and a RayCluster of its own."""
    options = cluster.spec["authOptions"]
    mode, secret = options["mode"], options["secretName"]
    if mode.text == "token" and (old := cluster.older_than(_TOKEN_SINCE)):
        yield mode.problem(f"'token' needs Ray 2.52.0, but {old}.", "Set rayVersion.")
    if secret.filled and not is_subdomain(secret.text):
        yield secret.problem(f"{secret.shown} cannot name a Secret.", DNS_1123)
    delegated = options["enableK8sTokenAuth"]
    if not delegated.on:
        return
    if mode.text != "token":
        yield delegated.problem("has no effect without mode: token.", "Set the mode.")
    elif old := cluster.older_than(_K8S_SINCE):
        yield delegated.problem(f"needs Ray 2.55.0, but {old}.", "Set rayVersion.")
    if secret.filled:
        yield secret.problem("stands beside enableK8sTokenAuth.", "Keep one of the two.")
    if cluster.kind != "RayCluster":
        yield delegated.problem(
            f"is not offered inside a {cluster.kind}.", "Use a token in a Secret: secretName."
        )


RULES = (authentication,)
