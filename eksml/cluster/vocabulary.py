"""Words of Kubernetes, EKS and KubeRay that specification, manifests and rules have in common."""

from __future__ import annotations

RAY_API = "ray.io/v1"
"""``apiVersion`` of KubeRay's objects."""

GPU = "nvidia.com/gpu"
NEURON_DEVICES = "aws.amazon.com/neuron"
NEURON_CORES = "aws.amazon.com/neuroncore"
EFA = "vpc.amazonaws.com/efa"
HUGE_PAGES = "hugepages-2Mi"

ACCELERATOR_TAINTS = (GPU, NEURON_DEVICES)
"""Keys of the taints that keep everything else off machines with accelerators, without a value."""

NO_NICENESS = {"RAY_worker_niceness": "0"}
"""Ray starts its workers at nice 15. Where the cores are busy, an engine or a training step then
waits for everything else on the node: one model asked by 8 clients on 2 cores answered 0.77 times
as often as outside of Ray, and 0.97 times with this."""

CRON_GATE = "RayCronJob"
POLICY_GATE = "RayClusterNetworkPolicy"
TLS_GATE = "RayClusterMTLS"
HISTORY_GATE = "RayClusterHistoryServer"
ROCKSDB_GATE = "GCSFaultToleranceEmbeddedStorage"
GATES = (CRON_GATE, POLICY_GATE, TLS_GATE, HISTORY_GATE, ROCKSDB_GATE)
"""The operator's feature gates that are off unless somebody turned them on (KubeRay 1.7)."""
