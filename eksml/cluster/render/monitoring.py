"""What Prometheus collects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eksml.cluster.render.names import namespaced, pod_labels

if TYPE_CHECKING:
    from eksml.cluster.spec import Cluster

_LABELS = ("ray.io/cluster", "ray.io/group", "ray.io/node-type")


def monitoring(spec: Cluster) -> list[dict[str, Any]]:
    """The PodMonitor of all Ray pods (the operator names their port ``metrics``).

    The pods' Ray labels become labels of every series: Ray's Grafana dashboards choose the cluster
    by ``ray_io_cluster``. A Prometheus that takes only monitors with a certain label, as the chart
    kube-prometheus-stack has it by default, needs ``podMonitorSelectorNilUsesHelmValues: false``.
    """
    if not spec.monitoring:
        return []
    endpoint = {
        "port": "metrics",
        "interval": "15s",
        "relabelings": [
            {
                "action": "replace",
                "sourceLabels": [f"__meta_kubernetes_pod_label_{_in_prometheus(label)}"],
                "targetLabel": _in_prometheus(label),
            }
            for label in _LABELS
        ],
    }
    monitor = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": namespaced(spec, spec.name),
        "spec": {
            "selector": {"matchLabels": pod_labels(spec) | {"ray.io/is-ray-node": "yes"}},
            "podMetricsEndpoints": [endpoint],
        },
    }
    return [monitor]


def _in_prometheus(label: str) -> str:
    return label.replace(".", "_").replace("/", "_").replace("-", "_")
