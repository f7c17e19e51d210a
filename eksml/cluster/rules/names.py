"""Rule 1: names that the operator can build the names of pods and Services from."""

from __future__ import annotations

from collections.abc import Iterator

from eksml.cluster.rules.field import Field, rule
from eksml.cluster.syntax import DNS_1035, DNS_1123, is_dns_1035, is_dns_1123
from eksml.errors import Problem

LONGEST_NAME = {"RayCluster": 53, "RayJob": 47, "RayService": 47, "RayCronJob": 36}
"""Characters that a name of each kind may have; the operator adds its own to it."""

_GENERATED = 5
"""Characters that the API server appends to ``generateName``."""


@rule(1, "names")
def named(manifest: Field) -> Iterator[Problem]:
    """Rule 1: names are DNS-1035, short enough for what the operator appends to them."""
    metadata, kind = manifest["metadata"], manifest["kind"].text
    name, limit, whole = metadata["name"], LONGEST_NAME[kind], metadata["name"].text
    if not name.given and metadata["generateName"].text:
        name, limit = metadata["generateName"], limit - _GENERATED
        whole = f"{name.text}x"
    if not name.given:
        yield name.problem("is missing.", f"{DNS_1035} At most {limit} characters.")
    elif not is_dns_1035(whole):
        yield name.problem(f"{name.shown} is not a DNS-1035 name.", DNS_1035)
    if len(name.text) > limit:
        yield name.problem(
            f"{name.shown} has {len(name.text)} characters; the operator appends to the name of "
            f"a {kind}.",
            f"Shorten it to {limit}.",
        )
    namespace = metadata["namespace"]
    if namespace.given and not is_dns_1123(namespace.text):
        yield namespace.problem(f"{namespace.shown} is not a DNS-1123 name.", DNS_1123)


RULES = (named,)
