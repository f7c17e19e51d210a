"""The whole answer before money is spent: what is made, does it fit, what it costs and needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from eksml.cluster.addons import addons
from eksml.cluster.cost import Cost, cost
from eksml.cluster.fit import Fit, fit
from eksml.cluster.iam import Permission, permissions
from eksml.cluster.quota import VcpuQuota, quotas
from eksml.cluster.ray_objects import cluster_spec_of
from eksml.cluster.risk import Gate, SpotRisk, gates, spot_risks, upgrade_warnings, warnings
from eksml.cluster.spec import Cluster
from eksml.errors import Problem

if TYPE_CHECKING:
    from eksml.cluster.render import Workload


@dataclass(frozen=True)
class Plan:
    """What a specification means on EKS. ``str()`` is a report for a terminal of 100 columns."""

    spec: Cluster
    objects: tuple[Mapping[str, Any], ...]
    """Every object that would be applied, in that order."""
    fit: Fit
    cost: Cost
    quotas: tuple[VcpuQuota, ...]
    permissions: tuple[Permission, ...]
    spot: tuple[SpotRisk, ...]
    gates: tuple[Gate, ...]
    """Alpha features of the operator that are used; ``spec.operator.gates`` has all of them."""
    addons: tuple[str, ...]
    """What must be installed in the EKS cluster."""
    warnings: tuple[str, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What makes it impossible; empty if the cluster can be had as it is written."""
        return self.fit.problems

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "cluster": self.spec.name,
            "namespace": self.spec.namespace,
            "region": self.spec.region,
            "ray_version": self.spec.ray,
            "operator_version": self.spec.operator.version,
            "ok": not self.problems,
            "problems": [asdict(problem) for problem in self.problems],
            "warnings": list(self.warnings),
            "groups": [
                asdict(group) | {"instance": group.instance, "machines": asdict(group.machines)}
                for group in self.fit.groups
            ],
            "cost": asdict(self.cost),
            "quotas": [asdict(quota) for quota in self.quotas],
            "permissions": [asdict(permission) for permission in self.permissions],
            "spot": [asdict(risk) for risk in self.spot],
            "gates": [asdict(gate) for gate in self.gates],
            "addons": list(self.addons),
            "objects": [dict(item) for item in self.objects],
        }

    def __str__(self) -> str:
        from eksml.cluster.report import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from eksml.cluster.report import as_html

        return as_html(self)


def plan(spec: Cluster, workload: Workload | None = None) -> Plan:
    """What ``spec`` would make on EKS, what that costs per hour and needs. Asks nobody: pure.

    With ``workload``, of a RayJob, RayService or RayCronJob with a cluster of its own. A plan whose
    ``problems`` are not empty can be read, but not be started.

    Raises:
        InvalidSpec: the specification cannot be rendered.
    """
    from eksml.cluster.render import objects, ray_cluster

    made = tuple(objects(spec, workload))
    # A job by selector brings no cluster: then it is the specification's own that it runs on
    packed = fit(spec, made[-1] if cluster_spec_of(made[-1]) else ray_cluster(spec))
    told = (*map(str, packed.warnings), *warnings(spec, packed), *upgrade_warnings(workload))
    return Plan(
        spec,
        made,
        packed,
        cost(packed, spec.region),
        quotas(packed),
        permissions(spec),
        spot_risks(spec, packed),
        gates(made),
        addons(spec, made, packed),
        told,
    )
