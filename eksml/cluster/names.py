"""The names and words that Kubernetes and KubeRay take, as types of a field."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from eksml.cluster.syntax import (
    is_dns_1035,
    is_dns_1123,
    is_label_key,
    is_label_value,
    is_subdomain,
)

INT32 = 2**31 - 1
"""The largest number that most fields of Kubernetes hold."""

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENV_SET_BY_EKSML = ("RAY_AUTH_", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
_KUBERNETES_OWN = ("kube-system", "kube-public", "kube-node-lease")


def is_name(text: str) -> bool:
    """Whether KubeRay would take ``text`` as the name of a cluster or group."""
    return len(text) <= 53 and is_dns_1035(text)


def _dns_name(name: str) -> str:
    if not is_name(name):
        raise ValueError(
            "not a DNS-1035 name of at most 53 characters: use a–z, 0–9 and '-', "
            "beginning with a letter and not ending with '-'"
        )
    return name


def _namespace(name: str) -> str:
    if not is_dns_1123(name):
        raise ValueError("not a namespace: at most 63 of a–z, 0–9 and '-', not at an end")
    if name in _KUBERNETES_OWN:
        raise ValueError("a namespace of Kubernetes itself; use one of your own")
    return name


def _object_name(name: str) -> str:
    if not is_subdomain(name):
        raise ValueError(
            "not the name of a Kubernetes object: at most 253 of a–z, 0–9, '-' and '.', "
            "with a letter or digit at both ends"
        )
    return name


def label_key(key: str) -> str:
    """``key``, if it is one that a Kubernetes label can have; else ``ValueError``."""
    if not is_label_key(key):
        raise ValueError(
            "not a Kubernetes label key: at most 63 of A–Z a–z 0–9 - _ . after a prefix/"
        )
    return key


def label_value(value: str) -> str:
    """``value``, if it is one that a Kubernetes label can have; else ``ValueError``."""
    if not is_label_value(value):
        raise ValueError("not a Kubernetes label value: at most 63 of A–Z a–z 0–9 - _ .")
    return value


def _env_name(name: str) -> str:
    if not _ENV_NAME.fullmatch(name):
        raise ValueError("not a name of an environment variable")
    if name.startswith(_ENV_SET_BY_EKSML):
        raise ValueError("set by eksml: token authentication is always on")
    return name


def _env_value(value: str) -> str:
    if "\0" in value:
        raise ValueError("holds a NUL character")
    return value


def _one_or_more(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    return value


def _filled(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or not all(value):
        raise ValueError("write one or more names, or leave it out")
    if len(set(value)) < len(value):
        raise ValueError("a name is there twice")
    return value


def _short(value: Sequence[str]) -> str | list[str]:
    return value[0] if len(value) == 1 else list(value)


Name = Annotated[str, AfterValidator(_dns_name)]
"""Of a cluster or group: DNS-1035, at most 53 characters."""
Namespace = Annotated[str, AfterValidator(_namespace)]
"""DNS-1123 label."""
ObjectName = Annotated[str, AfterValidator(_object_name)]
"""Of a Secret, claim, service account, storage class, priority class: DNS-1123 subdomain."""
LabelKey = Annotated[str, AfterValidator(label_key)]
LabelValue = Annotated[str, AfterValidator(label_value)]
FilledLabel = Annotated[str, Field(min_length=1), AfterValidator(label_value)]
"""A label's value that is not empty."""
Env = dict[Annotated[str, AfterValidator(_env_name)], Annotated[str, AfterValidator(_env_value)]]
"""Environment variables."""
Names = Annotated[
    tuple[str, ...],
    BeforeValidator(_one_or_more),
    AfterValidator(_filled),
    PlainSerializer(_short),
]
"""One name or several; written as a string or as a list, held as a tuple."""
Count = Annotated[int, Field(strict=True, ge=0, le=INT32)]
AtLeastOne = Annotated[int, Field(strict=True, ge=1, le=INT32)]
