"""What a cluster is: pure data. Nothing here knows Ray, Kubernetes or the network."""

from eksml.cluster.groups import WorkerGroup, cpu, gpu, neuron
from eksml.cluster.preflight import Demand, Offer, Placement, offers_of, preflight
from eksml.cluster.spec import Cluster, Head

__all__ = [
    "Cluster",
    "Demand",
    "Head",
    "Offer",
    "Placement",
    "WorkerGroup",
    "cpu",
    "gpu",
    "neuron",
    "offers_of",
    "preflight",
]
