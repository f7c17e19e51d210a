"""What a cluster is: pure data. Nothing here knows Ray, Kubernetes or the network."""

from eksml.cluster.groups import WorkerGroup, cpu, gpu, neuron
from eksml.cluster.head import Head
from eksml.cluster.mounts import ClaimMount, FsxMount, S3Mount, SecretMount
from eksml.cluster.options import (
    Autoscaling,
    Client,
    HeadState,
    Identity,
    Karpenter,
    Operator,
    Queue,
    Quota,
    Security,
)
from eksml.cluster.placement import Toleration
from eksml.cluster.preflight import Demand, Offer, Placement, offers_of, preflight
from eksml.cluster.spec import Cluster
from eksml.cluster.workloads import RayCronSpec, RayJobSpec, RayServiceSpec

__all__ = [
    "Autoscaling",
    "ClaimMount",
    "Client",
    "Cluster",
    "Demand",
    "FsxMount",
    "Head",
    "HeadState",
    "Identity",
    "Karpenter",
    "Offer",
    "Operator",
    "Placement",
    "Queue",
    "Quota",
    "RayCronSpec",
    "RayJobSpec",
    "RayServiceSpec",
    "S3Mount",
    "SecretMount",
    "Security",
    "Toleration",
    "WorkerGroup",
    "cpu",
    "gpu",
    "neuron",
    "offers_of",
    "preflight",
]
