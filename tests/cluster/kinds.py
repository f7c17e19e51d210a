"""What an API server would say of the kinds that are not KubeRay's, as far as we use them.

Kubernetes' own kinds go through the official client's models and must come back equal: a field
that the model does not know would be lost, a missing one raises. For Karpenter, Kueue and the
Prometheus operator there are the parts of their published schemas that eksml fills in; any other
field is refused.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema

Schema = dict[str, Any]

KUBERNETES = {
    ("v1", "ServiceAccount"),
    ("v1", "Secret"),
    ("v1", "ResourceQuota"),
    ("v1", "LimitRange"),
    ("v1", "PersistentVolume"),
    ("v1", "PersistentVolumeClaim"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
}


def _object(required: str = "", **properties: Any) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, "minItems": 1, **more}


_TEXT: Schema = {"type": "string", "minLength": 1}
_NAME: Schema = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "maxLength": 253}
_TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_TAGS: Schema = {**_TEXTS, "maxProperties": 20}
_DURATION: Schema = {"type": "string", "pattern": r"^(([0-9]+(s|m|h))+|Never)$"}
_EFFECT: Schema = {"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]}
_METADATA = _object("name labels", name=_NAME, namespace=_NAME, labels=_TEXTS, annotations=_TEXTS)

# karpenter.sh_nodepools.yaml: only labels that Karpenter or the cloud provider puts on nodes
_REQUIREMENT_KEYS = (
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone",
    "karpenter.sh/capacity-type",
    "karpenter.k8s.aws/instance-category",
    "karpenter.k8s.aws/instance-generation",
)
_NODE_POOL = _object(
    "template disruption",
    template=_object(
        "spec",
        spec=_object(
            "nodeClassRef requirements",
            nodeClassRef=_object(
                "group kind name",
                group={"const": "karpenter.k8s.aws"},
                kind={"const": "EC2NodeClass"},
                name=_NAME,
            ),
            requirements=_list(
                _object(
                    "key operator values",
                    key={"enum": list(_REQUIREMENT_KEYS)},
                    operator={"enum": ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]},
                    values=_list({**_TEXT, "maxLength": 63}),
                ),
                maxItems=100,
            ),
            taints=_list(_object("key effect", key=_TEXT, value=_TEXT, effect=_EFFECT)),
            expireAfter=_DURATION,
            terminationGracePeriod={"type": "string", "pattern": r"^([0-9]+(s|m|h))+$"},
        ),
    ),
    disruption=_object(
        "consolidateAfter",
        consolidationPolicy={"enum": ["WhenEmpty", "WhenEmptyOrUnderutilized"]},
        consolidateAfter=_DURATION,
        budgets=_list(
            _object(
                "nodes",
                nodes={"type": "string", "pattern": r"^((100|[0-9]{1,2})%|[0-9]+)$"},
                reasons=_list({"enum": ["Underutilized", "Empty", "Drifted"]}),
            )
        ),
    ),
    limits={"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1},
)
# karpenter.k8s.aws_ec2nodeclasses.yaml
_NODE_CLASS = _object(
    "role amiSelectorTerms subnetSelectorTerms securityGroupSelectorTerms",
    role=_TEXT,
    amiSelectorTerms=_list(
        _object(
            "alias",
            alias={"type": "string", "pattern": r"^(al2023|bottlerocket)@.+$", "maxLength": 30},
        ),
        maxItems=1,
    ),
    subnetSelectorTerms=_list(_object("tags", tags=_TAGS)),
    securityGroupSelectorTerms=_list(_object("tags", tags=_TAGS)),
    capacityReservationSelectorTerms=_list(
        _object("id", id={"type": "string", "pattern": r"^cr-[0-9a-z]+$"})
    ),
    blockDeviceMappings=_list(
        _object(
            "deviceName ebs",
            deviceName=_TEXT,
            ebs=_object(
                "volumeSize",
                volumeSize={"type": "string", "pattern": r"^[1-9][0-9]{0,3}Gi$"},
                volumeType={"enum": ["gp3"]},
                encrypted={"type": "boolean"},
                iops={"type": "integer", "minimum": 3000, "maximum": 16000},
                throughput={"type": "integer", "minimum": 125, "maximum": 1000},
            ),
        )
    ),
    instanceStorePolicy={"const": "RAID0"},
    userData=_TEXT,
    tags=_TEXTS,
)
# monitoring.coreos.com_podmonitors.yaml
_POD_MONITOR = _object(
    "selector podMetricsEndpoints",
    selector=_object("matchLabels", matchLabels=_TEXTS),
    podMetricsEndpoints=_list(
        _object(
            "port",
            port=_TEXT,
            interval={"type": "string", "pattern": r"^[0-9]+s$"},
            relabelings=_list(
                _object(
                    "sourceLabels targetLabel",
                    action={"enum": ["replace"]},
                    sourceLabels=_list({"type": "string", "pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"}),
                    targetLabel={"type": "string", "pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"},
                )
            ),
        )
    ),
)
_OTHERS = {
    ("karpenter.sh/v1", "NodePool"): _NODE_POOL,
    ("karpenter.k8s.aws/v1", "EC2NodeClass"): _NODE_CLASS,
    ("monitoring.coreos.com/v1", "PodMonitor"): _POD_MONITOR,
    ("kueue.x-k8s.io/v1beta2", "LocalQueue"): _object("clusterQueue", clusterQueue=_NAME),
}


def assert_valid(made: Mapping[str, Any]) -> None:
    """That the API server would take ``made``, of a kind that is not KubeRay's."""
    kind = (made["apiVersion"], made["kind"])
    jsonschema.validate(made["metadata"], _METADATA)
    if kind in KUBERNETES:
        assert _through_the_client(made, f"V1{made['kind']}") == made
    else:
        _validator(kind).validate(made)


def assert_pod(template: Mapping[str, Any]) -> None:
    """That the client's models know every field of a pod template."""
    assert _through_the_client(template, "V1PodTemplateSpec") == template


def nulls(value: Any, path: str = "") -> Iterator[str]:
    """Paths of all nulls: server-side apply refuses them."""
    if value is None:
        yield path
    inner = value.items() if isinstance(value, Mapping) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    for key, one in inner:
        yield from nulls(one, f"{path}.{key}")


@functools.cache
def _validator(kind: tuple[str, str]) -> jsonschema.Draft202012Validator:
    version, name = kind
    root = _object(
        "apiVersion kind metadata spec",
        apiVersion={"const": version},
        kind={"const": name},
        metadata=_METADATA,
        spec=_OTHERS[kind],
    )
    return jsonschema.Draft202012Validator(root)


def _through_the_client(made: Mapping[str, Any], model: str) -> Any:
    client = _client()
    read = client.deserialize(json.dumps(made), model, "application/json")
    return client.sanitize_for_serialization(read)


@functools.cache
def _client() -> Any:
    from kubernetes.client import ApiClient

    return ApiClient()
