"""What the operator only does with a feature gate that is off by default."""

from __future__ import annotations

from collections.abc import Iterator

from eksml.cluster.rules.field import Field, rule
from eksml.cluster.rules.ray_cluster import RayCluster
from eksml.cluster.vocabulary import CRON_GATE, HISTORY_GATE, POLICY_GATE, TLS_GATE
from eksml.errors import Problem

_BY_FIELD = {
    "networkPolicy": POLICY_GATE,
    "tlsOptions": TLS_GATE,
    "historyServerOptions": HISTORY_GATE,
}
_UNRESTRICTED = {"DenyAllEgress": "ingressRules", "DenyAllIngress": "egressRules"}


@rule(None, "feature gates")
def gates(cluster: RayCluster) -> Iterator[Problem]:
    """A field whose feature gate is off makes the operator refuse the whole object."""
    for name, gate in _BY_FIELD.items():
        field = cluster.spec[name]
        if field.given and gate not in cluster.gates:
            yield field.problem(
                f"needs the operator's feature gate {gate}, which is off.",
                "Turn the gate on, or leave the field out.",
            )


@rule(None, "feature gates")
def cron_gate(kind_and_gates: tuple[Field, frozenset[str]]) -> Iterator[Problem]:
    """Without its gate the operator does not look at a RayCronJob: nothing ever runs."""
    kind, gates_on = kind_and_gates
    if CRON_GATE not in gates_on:
        yield kind.problem(
            f"{kind.shown} needs the operator's feature gate {CRON_GATE}, which is off.",
            "Turn the gate on, or start RayJobs from a CronJob.",
        )


@rule(None, "network policy")
def network_policy(cluster: RayCluster) -> Iterator[Problem]:
    """Rules are for a direction that the mode denies, and for groups that exist."""
    policy = cluster.spec["networkPolicy"]
    useless = _UNRESTRICTED.get(policy["mode"].text, "")
    groups = policy["workerGroups"].items()
    for place in (policy["head"], policy["worker"], *groups):
        if useless and place[useless].filled:
            yield place[useless].problem(
                f"has no effect in mode {policy['mode'].text}.", "Leave it out, or use DenyAll."
            )
    names = {group.name for group in cluster.workers}
    for place in groups:
        if place["groupName"].text not in names:
            yield place["groupName"].problem(
                f"{place['groupName'].shown} is none of the groups.",
                f"The groups: {', '.join(sorted(names)) or 'none'}.",
            )


RULES = (gates, network_policy)
