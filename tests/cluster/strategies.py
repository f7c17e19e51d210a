"""Specifications that are accepted: any for the local backend, any for EKS."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy, composite

from eksml import Cluster
from eksml.cluster import (
    Autoscaling,
    ClaimMount,
    Client,
    FsxMount,
    Head,
    HeadState,
    Identity,
    Karpenter,
    Operator,
    Queue,
    Quota,
    S3Mount,
    SecretMount,
    Security,
    Toleration,
    WorkerGroup,
)
from eksml.cluster.catalogue import Instance, instances
from eksml.cluster.placement import EKS_NODEGROUP, KARPENTER_NODEPOOL
from eksml.cluster.sizing import SIDECARS_BYTES, SIDECARS_MILLI, share_of
from eksml.cluster.vocabulary import GATES, ROCKSDB_GATE

MIB, GIB = 1024**2, 1024**3
REGIONS = ("us-east-1", "eu-central-1")
IMAGES = (
    "123456789012.dkr.ecr.us-east-1.amazonaws.com/team/trainer:1.4.2",
    f"ghcr.io/team/trainer@sha256:{'0a' * 32}",
    "registry.example.com:5000/ray-in-house:ray-2.60.0",
)
PODS: tuple[dict[str, Any], ...] = (
    {},
    {"metadata": {"annotations": {"team.example.com/owner": "vision"}}},
    {"metadata": {"labels": {"team": "vision"}}, "spec": {"schedulerName": "other"}},
)

MODEST = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For properties of whole clusters: each takes some milliseconds to draw."""

words = st.text(string.ascii_letters + string.digits, min_size=1, max_size=20)
anything = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30)
names = st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True).filter(
    lambda name: name not in ("head", "headgroup")
)
object_names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?(\.[a-z0-9]+)?", fullmatch=True)
labels = st.dictionaries(words, words | st.just(""), max_size=3)
envs = st.dictionaries(words.map("X_{}".format), anything, max_size=3)
resources = st.dictionaries(
    words.map("r-{}".format), st.floats(0.001, 1e6) | st.integers(1, 100), max_size=3
)
ranges = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(sorted).map(tuple)
tolerations = st.lists(
    st.builds(
        Toleration,
        key=words,
        value=st.none() | words,
        effect=st.sampled_from([None, "NoSchedule", "PreferNoSchedule", "NoExecute"]),
    )
    | st.builds(Toleration, key=words, effect=st.just("NoExecute"), seconds=st.integers(0, 600)),
    max_size=2,
).map(tuple)
pods = st.sampled_from(PODS)


def optional(strategy: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.none() | strategy


def _mounts(root: str) -> SearchStrategy[tuple[Any, ...]]:
    """Below ``root``, so that those of a cluster and of its groups never meet."""
    paths = words.map(f"{root}/{{}}".format)
    bucket = st.from_regex(r"[a-z][-a-z0-9]{1,20}[a-z0-9]", fullmatch=True)
    prefix = optional(words.map("{}/".format))
    any_mount = (
        st.builds(FsxMount, claim=object_names, path=paths, read_only=st.booleans())
        | st.builds(S3Mount, bucket=bucket, path=paths, read_only=st.booleans(), prefix=prefix)
        | st.builds(ClaimMount, claim=object_names, path=paths, read_only=st.booleans())
        | st.builds(SecretMount, secret=object_names, path=paths)
    )
    return st.lists(any_mount, max_size=3, unique_by=lambda mount: mount.path).map(tuple)


# --- local: any sizes, nothing enforces them ---

_local_sizes: dict[str, SearchStrategy[Any]] = {
    "cpus": optional(st.integers(0, 512)),
    "gpus": optional(st.integers(0, 16)),
    "neuron_cores": optional(st.integers(0, 32)),
    "memory": optional(st.integers(1, 2**43)),
    "object_store_memory": optional(st.integers(1, 2**43)),
    "resources": resources,
    "labels": labels,
    "env": envs,
    "instance": optional(st.sampled_from(["g6.12xlarge", ("x9.large", "x9.xlarge")])),
    "tolerations": tolerations,
    "pod": pods,
}
local_clusters = st.builds(
    Cluster,
    name=names,
    head=st.builds(
        Head,
        dashboard_port=optional(st.integers(1024, 65535)),
        mounts=_mounts("/head"),
        **_local_sizes,
    ),
    groups=st.lists(
        st.builds(
            WorkerGroup,
            name=names,
            nodes=ranges,
            market=st.sampled_from(["on-demand", "spot", "reserved"]),
            accelerator=optional(st.just("L4")),
            mounts=_mounts("/group"),
            **_local_sizes,
        ),
        max_size=4,
        unique_by=lambda group: group.name,
    ).map(tuple),
    env=envs,
    mounts=_mounts("/data"),
    notice_s=st.integers(1, 300),
)


# --- EKS: only what an instance can give ---


def _kind(machine: Instance) -> tuple[Any, ...]:
    """Types of one kind may share a group."""
    return (machine.arch, machine.gpu and (machine.gpu.name, machine.gpu.count), machine.neuron)


def _divisors(machine: Instance, efa: bool) -> list[int]:
    """Into how many shares a machine can be cut."""
    counts = [machine.gpu.count] if machine.gpu else []
    counts += [machine.neuron.cores] if machine.neuron else []
    counts += [machine.efa] if efa else []
    return [
        pods
        for pods in range(1, 9)
        if all(count % pods == 0 for count in counts)
        and share_of((machine.name,), pods, efa=efa).cpus_milli >= 1000
        and share_of((machine.name,), pods, efa=efa).memory_bytes >= 2 * GIB
    ]


@composite
def _instance_sizes(draw: DrawFn) -> dict[str, Any]:
    """Instance types, and what may be said beside them."""
    types = [machine for machine in instances().values() if _divisors(machine, efa=False)]
    first = draw(st.sampled_from(types))
    alike = [machine for machine in types if _kind(machine) == _kind(first)]
    market = draw(st.sampled_from(["on-demand", "spot", "reserved"]))
    several = draw(st.lists(st.sampled_from(alike), max_size=2, unique=True))
    machines = list({machine.name: machine for machine in [first, *several]}.values())
    efa = all(machine.efa for machine in machines) and draw(st.booleans())
    cuts = set.intersection(*(set(_divisors(machine, efa)) for machine in machines))
    fields: dict[str, Any] = {
        "instance": tuple(machine.name for machine in machines),
        "market": market,
        "efa": efa,
        "pods_per_node": draw(st.sampled_from(sorted(cuts))),
    }
    if market == "reserved" and len(machines) == 1:
        fields["capacity_reservation"] = "cr-0123456789abcdef0"
    if first.neuron:
        fields["image"] = draw(st.sampled_from(IMAGES))
    share = share_of(fields["instance"], fields["pods_per_node"], efa=efa)
    if draw(st.booleans()):
        fields["cpus"] = draw(st.integers(0, share.cpus_milli // 1000))
        fields["gpus"], fields["accelerator"] = share.gpus, first.accelerator
    if disk := min(machine.nvme_bytes for machine in machines) // fields["pods_per_node"]:
        fields["scratch"] = draw(optional(st.integers(1, int(disk * 0.8))))
    return fields | draw(_memory(share.memory_bytes))


@composite
def _memory(draw: DrawFn, whole: int) -> dict[str, Any]:
    """Amounts that fit into a pod with so much memory."""
    store = draw(optional(st.integers(100 * MIB, max(100 * MIB, whole // 3))))
    return {
        "memory": draw(optional(st.integers(1, whole // 2))),
        "object_store_memory": store,
        "shm": draw(optional(st.integers(store or 100 * MIB, max(whole * 2 // 3, store or 0)))),
    }


@composite
def _plain_sizes(draw: DrawFn) -> dict[str, Any]:
    """Of nodes for which no instance is named: as large as is said."""
    store = draw(optional(st.integers(100 * MIB, 64 * GIB)))
    return {
        "cpus": draw(optional(st.integers(0, 64))),
        "memory": draw(optional(st.integers(GIB, 256 * GIB))),
        "object_store_memory": store,
        "shm": draw(optional(st.integers(store or 100 * MIB, 128 * GIB))),
        "market": draw(st.sampled_from(["on-demand", "spot"])),
    }


@composite
def _eks_group(draw: DrawFn, region: str, scaled: bool) -> WorkerGroup:
    sizes = draw(_plain_sizes() | _instance_sizes())
    shared, efa = sizes.get("pods_per_node", 1) > 1, sizes.get("efa", False)
    hosts = 1 if shared else draw(st.integers(1, 3))
    zones = draw(
        st.lists(
            st.sampled_from([f"{region}{letter}" for letter in "abc"]),
            max_size=1 if efa else 3,
            unique=True,
        )
    )
    no_zones = efa or len(zones) == 1
    spreads = [None, *([] if shared else ["host"]), *([] if no_zones else ["zone"])]
    least, most = sorted(draw(st.tuples(st.integers(0, 9), st.integers(0, 9))))
    initial = draw(optional(st.integers(least, most)))
    selectors = [{}, {KARPENTER_NODEPOOL: "training"}, {EKS_NODEGROUP: "training"}]
    scaling = (
        {
            "priority": draw(st.integers(-5, 5)),
            "idle_timeout_s": draw(optional(st.integers(0, 900))),
        }
        if scaled
        else {}
    )
    fields: dict[str, Any] = {
        "name": draw(names),
        "nodes": (least * hosts, most * hosts),
        "replicas": None if initial is None else initial * hosts,
        "hosts": hosts,
        "zones": zones,
        "spread": draw(st.sampled_from(spreads)),
        "node_selector": draw(st.sampled_from(selectors)),
        "resources": draw(resources),
        "labels": draw(labels),
        "env": draw(envs),
        "mounts": draw(_mounts("/group")),
        "tolerations": draw(tolerations),
        "priority_class": draw(optional(object_names)),
        "protected": draw(optional(st.booleans())),
        "pod": draw(pods),
        "image": draw(optional(st.sampled_from(IMAGES))),
    }
    return WorkerGroup(**(fields | scaling | sizes))


@composite
def _eks_head(draw: DrawFn) -> Head:
    plain = [
        machine
        for machine in instances().values()
        if not machine.accelerator and machine.vcpus >= 4 and machine.memory_bytes >= 8 * GIB
    ]
    machine = draw(optional(st.sampled_from(plain)))
    cpus, memory = 4, 16 * GIB
    if machine:
        share = share_of((machine.name,), 1)
        cpus = (share.cpus_milli - SIDECARS_MILLI) // 1000
        memory = share.memory_bytes - SIDECARS_BYTES
    return Head(
        instance=machine and machine.name,
        pod_cpus=draw(optional(st.just(cpus))),
        pod_memory=draw(optional(st.integers(2 * GIB, memory))),
        cpus=draw(optional(st.integers(0, cpus))),
        object_store_memory=draw(optional(st.integers(100 * MIB, GIB))),
        resources=draw(resources),
        labels=draw(labels),
        env=draw(envs),
        mounts=draw(_mounts("/head")),
        tolerations=draw(tolerations),
        pod=draw(pods),
        dashboard_port=draw(optional(st.integers(1024, 65535))),
    )


autoscalings = st.builds(
    Autoscaling,
    idle_timeout_s=st.integers(1, 3600),
    upscaling=st.sampled_from(["default", "aggressive", "conservative"]),
)
identities = st.builds(
    Identity,
    service_account=optional(object_names.filter(lambda name: name != "default")),
    role_arn=optional(st.just("arn:aws:iam::123456789012:role/team/ray")),
    pod_identity=st.booleans(),
)
securities = st.builds(
    Security,
    restricted=st.booleans(),
    clients=st.lists(st.builds(Client, namespace=optional(names), labels=labels), max_size=2).map(
        tuple
    ),
    token_secret=optional(object_names),
) | st.builds(Security, network_policy=st.just(False))
quotas = st.just(Quota(limits={"requests.nvidia.com/gpu": "100k", "limits.memory": "9Ei"}))
queues = st.builds(
    Queue,
    name=names,
    kind=st.sampled_from(["kueue", "volcano"]),
    priority=optional(names),
) | st.just(Queue(name="root.team-a", kind="yunikorn"))
karpenters = st.builds(
    Karpenter,
    node_role=words,
    subnets=st.just({"karpenter.sh/discovery": "ml"}),
    security_groups=st.just({"karpenter.sh/discovery": "ml"}),
    ami=st.sampled_from(["al2023@latest", "al2023@v20260101", "bottlerocket@v1.40.0"]),
    limits=st.sampled_from([{}, {"cpu": "1000"}]),
)


@composite
def _head_state(draw: DrawFn, gates: tuple[str, ...]) -> HeadState | None:
    redis = HeadState(
        store="redis", redis_address="redis:6379", redis_secret=draw(optional(object_names))
    )
    if ROCKSDB_GATE not in gates:
        return draw(st.sampled_from([None, redis]))
    claimed = st.builds(HeadState, store=st.just("rocksdb"), claim=object_names)
    made = st.builds(
        HeadState,
        store=st.just("rocksdb"),
        size=optional(st.just("20Gi")),
        storage_class=optional(object_names),
    )
    return draw(st.just(None) | st.just(redis) | claimed | made)


@composite
def eks_clusters(draw: DrawFn) -> Cluster:
    """Clusters on EKS that the model accepts: instances of the whole catalogue, every option."""
    region = draw(st.sampled_from(REGIONS))
    autoscaling = draw(optional(autoscalings))
    gates = tuple(draw(st.lists(st.sampled_from(GATES), unique=True)))
    karpenter = draw(optional(karpenters))
    groups = draw(
        st.lists(
            _eks_group(region, autoscaling is not None),
            max_size=3,
            unique_by=lambda group: group.name,
        )
    )
    if karpenter:  # which must know the reservation
        groups = [
            group
            for group in groups
            if group.market != "reserved" or group.capacity_reservation or group.node_selector
        ]
    return Cluster(
        name=draw(names),
        backend="eks",
        namespace=draw(names),
        region=region,
        head=draw(_eks_head()),
        groups=tuple(groups),
        image=draw(optional(st.sampled_from(IMAGES))),
        ray_version=draw(st.sampled_from([None, "2.60.0"])),
        autoscaling=autoscaling,
        head_state=draw(_head_state(gates)),
        identity=draw(identities),
        security=draw(securities),
        quota=draw(optional(quotas)),
        queue=draw(optional(queues)),
        mounts=draw(_mounts("/data")),
        monitoring=draw(st.booleans()),
        protected=draw(st.booleans()),
        operator=Operator(gates=gates),
        karpenter=karpenter,
        env=draw(envs),
        notice_s=draw(st.integers(1, 100)),
    )
