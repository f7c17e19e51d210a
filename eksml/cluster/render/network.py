"""Who reaches Ray's ports, and what Ray's pods reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eksml.cluster.render.names import namespaced, pod_labels

if TYPE_CHECKING:
    from eksml.cluster.options import Client
    from eksml.cluster.spec import Cluster

DASHBOARD, RAY_CLIENT, SERVE = 8265, 10001, 8000
METRICS = (8080, 44217, 44227)
"""Each node's own metrics; on the head also the autoscaler's and the dashboard's."""

_IMDS_V4, _IMDS_V6 = "169.254.169.254/32", "fd00:ec2::254/128"


def network(spec: Cluster) -> list[dict[str, Any]]:
    """The NetworkPolicy of all Ray pods of a cluster; none if switched off.

    **In** come, and nobody else does (probes and ``kubectl port-forward``, which pass through the
    kubelet, always do):

    - the cluster's own pods, on every port: Ray's workers and object managers listen on random
      ones. 6379, by which a process joins the cluster, is open to nobody else.
    - the operator on the dashboard (it submits and follows jobs and Serve configurations there)
      and on Serve's health check,
    - the submitter pods of RayJobs in this namespace, on the dashboard,
    - the gateways of this namespace (an incremental upgrade routes through one), on Serve,
    - ``security.clients``, on dashboard, Ray Client, Serve and metrics: notebooks, other apps, an
      ingress controller, a collector of metrics that is not Prometheus. A load balancer that
      targets pod addresses from outside is no pod: give its traffic an ingress that is one.
    - Prometheus, on the metrics ports, if the cluster is monitored.

    **Out** goes everything (S3, ECR, hubs and data sources have no stable addresses) except the
    instance metadata service: it hands the *node's* role to whoever asks, and Ray runs anybody's
    code. Pods get theirs from Pod Identity (169.254.170.23) or STS, both of which stay open.

    The VPC CNI enforces this only with ``enableNetworkPolicy``; EFA bypasses the kernel, and so
    any policy: the security group guards it.
    """
    if not spec.security.network_policy:
        return []
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": namespaced(spec, spec.name),
        "spec": {
            "podSelector": {"matchLabels": pod_labels(spec)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": _ingress(spec),
            "egress": _egress(),
        },
    }
    return [policy]


def _ingress(spec: Cluster) -> list[dict[str, Any]]:
    rules = [
        {"from": [_pods(pod_labels(spec))]},
        # Its namespace is the installer's choice; the component label is the same under Helm and
        # kustomize.
        _rule(
            [_pods_anywhere({"app.kubernetes.io/component": "kuberay-operator"})],
            DASHBOARD,
            SERVE,
        ),
        _rule([_pods({"ray.io/originated-from-crd": "RayJob"})], DASHBOARD),
        _rule([_gateways()], SERVE),
    ]
    if spec.security.clients:
        peers = [_client(client) for client in spec.security.clients]
        rules.append(_rule(peers, DASHBOARD, RAY_CLIENT, SERVE, *METRICS))
    if spec.monitoring:
        rules.append(_rule([_pods_anywhere({"app.kubernetes.io/name": "prometheus"})], *METRICS))
    return rules


def _egress() -> list[dict[str, Any]]:
    # Pods are named beside the address blocks, since some network plugins (Cilium) match
    # address blocks only to what is outside the cluster.
    everywhere = [
        {"namespaceSelector": {}},
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": [_IMDS_V4]}},
        {"ipBlock": {"cidr": "::/0", "except": [_IMDS_V6]}},
    ]
    return [{"to": everywhere}]


def _rule(peers: list[dict[str, Any]], *ports: int) -> dict[str, Any]:
    return {"from": peers, "ports": [{"protocol": "TCP", "port": port} for port in ports]}


def _pods(labels: dict[str, str]) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": labels}}


def _pods_anywhere(labels: dict[str, str]) -> dict[str, Any]:
    return {"namespaceSelector": {}, **_pods(labels)}


def _gateways() -> dict[str, Any]:
    """Pods of a Gateway: the Gateway API has every implementation label them so (GEP-1762)."""
    key = "gateway.networking.k8s.io/gateway-name"
    return {"podSelector": {"matchExpressions": [{"key": key, "operator": "Exists"}]}}


def _client(client: Client) -> dict[str, Any]:
    pods = {"matchLabels": dict(sorted(client.labels.items()))} if client.labels else {}
    if client.namespace is None:
        return {"podSelector": pods}
    named = {"matchLabels": {"kubernetes.io/metadata.name": client.namespace}}
    return {"namespaceSelector": named, "podSelector": pods}
