"""Rule 16: a pod template as a Pod, which nobody checks before the operator creates one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from eksml.cluster.rules.field import Field, rule
from eksml.cluster.syntax import (
    DNS_1123,
    LABEL_KEY,
    LABEL_VALUE,
    is_label_key,
    is_label_value,
    is_subdomain,
)
from eksml.errors import Problem

_NAMES_OF_OBJECTS = ("serviceAccountName", "priorityClassName", "runtimeClassName")
_SECURE_PATHS = ("appArmorProfile", "seccompProfile")


@dataclass(frozen=True)
class Pod:
    """A pod template."""

    template: Field

    @property
    def spec(self) -> Field:
        """The pod's specification."""
        return self.template["spec"]

    @cached_property
    def containers(self) -> list[Field]:
        """Its containers, those that run before the others included."""
        return [*self.spec["initContainers"].items(), *self.spec["containers"].items()]


def doubled(fields: Sequence[Field], keys: Sequence[object], what: str) -> Iterator[Problem]:
    """A problem at each field whose key is another's too."""
    taken = Counter(keys)
    for field, key in zip(fields, keys, strict=True):
        if taken[key] > 1:
            yield field.problem(f"{key!r:.80} is the {what} of {taken[key]}.", "Keep one.")


@rule(16, "pod: metadata")
def metadata(pod: Pod) -> Iterator[Problem]:
    """Rule 16: labels and annotations have valid keys, labels valid values."""
    labels, annotations = (
        pod.template["metadata"]["labels"],
        pod.template["metadata"]["annotations"],
    )
    for key, value in (*labels.entries().items(), *annotations.entries().items()):
        if not is_label_key(key):
            yield value.problem(f"{key!r:.80} is not the key of a label.", LABEL_KEY)
    for value in labels.entries().values():
        if not is_label_value(value.text):
            yield value.problem(f"{value.shown} is not the value of a label.", LABEL_VALUE)


@rule(16, "pod: names")
def names(pod: Pod) -> Iterator[Problem]:
    """Rule 16: what a pod names can be the name of an object."""
    named = [pod.spec[name] for name in _NAMES_OF_OBJECTS]
    named += [secret["name"] for secret in pod.spec["imagePullSecrets"].items()]
    for field in named:
        if field.filled and not is_subdomain(field.text):
            yield field.problem(f"{field.shown} cannot name an object.", DNS_1123)
    claims = pod.spec["resourceClaims"].items()
    yield from doubled(claims, [claim["name"].text for claim in claims], "name")


@rule(16, "pod: template only")
def template_only(pod: Pod) -> Iterator[Problem]:
    """Rule 16: a template says nothing that only the scheduler or kubectl debug may say."""
    ephemeral, node = pod.spec["ephemeralContainers"], pod.spec["nodeName"]
    if ephemeral.filled:
        yield ephemeral.problem("cannot be created with a pod.", "Leave it out.")
    if node.filled:
        yield node.problem(f"{node.shown} goes past the scheduler.", "Use nodeSelector.")


@rule(16, "pod: security")
def security(pod: Pod) -> Iterator[Problem]:
    """Rule 16: security contexts don't contradict themselves."""
    whole = pod.spec["securityContext"]
    for context in (whole, *(container["securityContext"] for container in pod.containers)):
        user, non_root = context["runAsUser"], context["runAsNonRoot"]
        if user.whole == 0 and (non_root.on or (not non_root.given and whole["runAsNonRoot"].on)):
            yield user.problem("0 is root, but runAsNonRoot is true.", "Write such as 1000.")
        escalation = context["allowPrivilegeEscalation"]
        added = [capability.text for capability in context["capabilities"]["add"].items()]
        if escalation.value is False and (context["privileged"].on or "SYS_ADMIN" in added):
            yield escalation.problem("cannot be false for a privileged container.")
        for name in _SECURE_PATHS:
            profile = context[name]
            is_local = profile["type"].text == "Localhost"
            if profile.given and is_local != profile["localhostProfile"].filled:
                yield profile.problem("needs localhostProfile exactly if its type is Localhost.")


RULES = (metadata, names, template_only, security)
