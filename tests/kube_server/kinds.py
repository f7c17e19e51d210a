"""What the fake serves: kinds by API version, with plural and whether they are namespaced."""

Kinds = dict[str, tuple[str, bool]]

CORE: dict[str, Kinds] = {
    "v1": {
        "ConfigMap": ("configmaps", True),
        "Event": ("events", True),
        "Namespace": ("namespaces", False),
        "PersistentVolume": ("persistentvolumes", False),
        "PersistentVolumeClaim": ("persistentvolumeclaims", True),
        "Pod": ("pods", True),
        "ResourceQuota": ("resourcequotas", True),
        "Secret": ("secrets", True),
        "Service": ("services", True),
        "ServiceAccount": ("serviceaccounts", True),
    },
    "networking.k8s.io/v1": {"NetworkPolicy": ("networkpolicies", True)},
    "policy/v1": {"PodDisruptionBudget": ("poddisruptionbudgets", True)},
    "rbac.authorization.k8s.io/v1": {
        "Role": ("roles", True),
        "RoleBinding": ("rolebindings", True),
    },
}
"""What every Kubernetes has (of what is used here)."""

KUBERAY: dict[str, Kinds] = {
    "ray.io/v1": {
        "RayCluster": ("rayclusters", True),
        "RayCronJob": ("raycronjobs", True),
        "RayJob": ("rayjobs", True),
        "RayService": ("rayservices", True),
    }
}
KARPENTER: dict[str, Kinds] = {
    "karpenter.sh/v1": {"NodeClaim": ("nodeclaims", False), "NodePool": ("nodepools", False)},
    "karpenter.k8s.aws/v1": {"EC2NodeClass": ("ec2nodeclasses", False)},
}
KUEUE: dict[str, Kinds] = {
    "kueue.x-k8s.io/v1beta2": {
        "LocalQueue": ("localqueues", True),
        "Workload": ("workloads", True),
    }
}
PROMETHEUS: dict[str, Kinds] = {"monitoring.coreos.com/v1": {"PodMonitor": ("podmonitors", True)}}
