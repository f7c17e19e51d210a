"""Rules 6–9: what autoscaling, and which version of it, allows."""

from __future__ import annotations

from collections.abc import Iterator

from eksml.cluster.rules.field import rule
from eksml.cluster.rules.ray_cluster import RayCluster
from eksml.errors import Problem

_SAY_V2 = (
    "Set enableInTreeAutoscaling: true and autoscalerOptions.version: v2 (nothing said is not v2)."
)
_PRIORITY_SINCE = (2, 56, 0)
_COMMAND_ENV = "KUBERAY_GEN_AUTOSCALER_START_CMD"


@rule(6, "idle timeouts")
def idle_timeouts(cluster: RayCluster) -> Iterator[Problem]:
    """Rule 6: idle timeouts are not negative; a group's own needs autoscaler v2, said as such."""
    for field in [
        cluster.spec["autoscalerOptions"]["idleTimeoutSeconds"],
        *(group.field["idleTimeoutSeconds"] for group in cluster.workers),
    ]:
        if field.whole is not None and field.whole < 0:
            yield field.problem(f"{field.shown} is less than 0.", "Write seconds.")
    for group in cluster.workers:
        own = group.field["idleTimeoutSeconds"]
        if own.given and not cluster.says_v2:
            yield own.problem("is only read by autoscaler v2, which is not on.", _SAY_V2)


@rule(7, "priority")
def priority(cluster: RayCluster) -> Iterator[Problem]:
    """Rule 7: a group's priority needs autoscaler v2 and Ray 2.56."""
    for group in cluster.workers:
        field = group.field["priority"]
        if not field.whole:
            continue
        if not cluster.says_v2:
            yield field.problem(f"{field.shown} needs autoscaler v2, which is not on.", _SAY_V2)
        if old := cluster.older_than(_PRIORITY_SINCE):
            yield field.problem(f"{field.shown} needs Ray 2.56, but {old}.", "Set rayVersion.")


@rule(8, "autoscaler v2")
def autoscaler_v2(cluster: RayCluster) -> Iterator[Problem]:
    """Rule 8: under autoscaler v2 no pod restarts in place, and v2 is asked for in one way."""
    for group in cluster.groups if cluster.v2 else ():
        policy = group.template["spec"]["restartPolicy"]
        if policy.text not in ("", "Never"):
            yield policy.problem(
                f"{policy.shown} does not go with autoscaler v2: it replaces nodes itself.",
                "Write Never, or leave it out.",
            )
    env, version = cluster.v2_env, cluster.spec["autoscalerOptions"]["version"]
    if env is not None and version.given:
        yield env.problem("stands beside autoscalerOptions.version.", "Keep only the latter.")
    elif env is not None and not cluster.autoscaled and env["value"].text in ("1", "true"):
        yield env.problem("is set, but enableInTreeAutoscaling is not.", _SAY_V2)
    for entry in cluster.spec["autoscalerOptions"]["env"].items():
        if entry["name"].text == _COMMAND_ENV:
            yield entry.problem(f"{_COMMAND_ENV} is the operator's own.", "Leave it out.")


@rule(9, "suspended groups")
def suspended_groups(cluster: RayCluster) -> Iterator[Problem]:
    """Rule 9: no group is suspended while the autoscaler runs."""
    for group in cluster.workers if cluster.autoscaled else ():
        field = group.field["suspend"]
        if field.on:
            yield field.problem(
                "cannot be true while enableInTreeAutoscaling is.",
                "Scale the group to 0 by maxReplicas: 0, or suspend the cluster.",
            )


RULES = (idle_timeouts, priority, autoscaler_v2, suspended_groups)
