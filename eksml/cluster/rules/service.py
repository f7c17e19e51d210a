"""Rule 14: a RayService."""

from __future__ import annotations

import re
from collections.abc import Iterator

from eksml.cluster.rules.field import Field, rule
from eksml.cluster.rules.schedule import duration_s
from eksml.errors import Problem

INCREMENTAL = "NewClusterWithIncrementalUpgrade"

_TIMEOUT_ANNOTATION = "ray.io/initializing-timeout"
_SECONDS = re.compile(r"\+?[0-9]+")


@rule(14, "service: head service")
def head_service(service: Field) -> Iterator[Problem]:
    """Rule 14: the head's Service is not named: each upgrade starts a cluster with its own."""
    group = service["spec"]["rayClusterConfig"]["headGroupSpec"]
    name = group["headService"]["metadata"]["name"]
    if name.filled:
        yield name.problem(
            f"{name.shown}: two clusters of one upgrade cannot share a Service.", "Leave it out."
        )


@rule(14, "service: upgrade")
def upgrade(service: Field) -> Iterator[Problem]:
    """Rule 14: an incremental upgrade needs the autoscaler and its options within bounds."""
    spec = service["spec"]
    delay = spec["rayClusterDeletionDelaySeconds"]
    if (delay.whole or 0) < 0:
        yield delay.problem(f"{delay.shown} is less than 0.", "Write seconds.")
    strategy = spec["upgradeStrategy"]
    options = strategy["clusterUpgradeOptions"]
    if strategy["type"].text != INCREMENTAL:
        if options.given:
            yield options.problem(f"is only read with type: {INCREMENTAL}.", "Leave it out.")
        return
    if not spec["rayClusterConfig"]["enableInTreeAutoscaling"].on:
        yield strategy["type"].problem(
            f"{INCREMENTAL!r} grows and shrinks two clusters by the autoscaler, which is off.",
            "Set rayClusterConfig.enableInTreeAutoscaling: true.",
        )
    if options.given:
        yield from _options(options)
    else:
        yield options.problem(f"is missing, and {INCREMENTAL} needs it.")


def _options(options: Field) -> Iterator[Problem]:
    surge, step = options["maxSurgePercent"], options["stepSizePercent"]
    for field in (surge, step):
        if field.whole is not None and not 0 <= field.whole <= 100:
            yield field.problem(f"{field.shown} is not between 0 and 100.")
    most = 100 if surge.whole is None else surge.whole
    if step.whole is None:
        yield step.problem("is missing.", "Write a percentage of the traffic, such as 10.")
    elif step.whole > most:
        yield step.problem(f"{step.shown} is more than maxSurgePercent, which is {most}.")
    interval = options["intervalSeconds"]
    if interval.whole is None:
        yield interval.problem("is missing.", "Write seconds, such as 10.")
    elif interval.whole <= 0:
        yield interval.problem(f"{interval.shown} is not more than 0.", "Write seconds.")
    gateway = options["gatewayClassName"]
    if not gateway.text:
        yield gateway.problem("is missing.", "Name a GatewayClass of the cluster, such as istio.")


@rule(14, "service: initializing timeout")
def initializing_timeout(service: Field) -> Iterator[Problem]:
    """Rule 14: the annotation holds seconds or a Go duration, more than 0."""
    field = service["metadata"]["annotations"][_TIMEOUT_ANNOTATION]
    if not field.text:
        return
    seconds = float(field.text) if _SECONDS.fullmatch(field.text) else duration_s(field.text)
    if not seconds or seconds <= 0:
        yield field.problem(f"{field.shown} is not a time.", "Write seconds, or such as 30m.")


RULES = (head_service, upgrade, initializing_timeout)
