"""Names as Kubernetes takes them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_DNS_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_DNS_1123.pattern}(\.{_DNS_1123.pattern})*")
_WORD = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")

DNS_1035 = "Use a–z, 0–9 and '-', beginning with a letter and not ending with '-'."
DNS_1123 = "Use a–z, 0–9 and '-', not beginning or ending with '-', at most 63 characters."
LABEL_KEY = "Write prefix/name: at most 63 of A–Z a–z 0–9 - _ . after a DNS name and '/'."
LABEL_VALUE = "Use at most 63 of A–Z a–z 0–9 - _ ., beginning and ending with a letter or digit."


def is_dns_1035(text: str) -> bool:
    """Whether it may name a Service. The length is the caller's business."""
    return bool(_DNS_1035.fullmatch(text))


def is_dns_1123(text: str) -> bool:
    """Whether it may name a container, a volume or a namespace."""
    return len(text) <= 63 and bool(_DNS_1123.fullmatch(text))


def is_subdomain(text: str) -> bool:
    """Whether it may name most objects: a Secret, a claim, a service account."""
    return len(text) <= 253 and bool(_SUBDOMAIN.fullmatch(text))


def is_label_key(key: str) -> bool:
    """Whether it may be the key of a label, an annotation or a taint."""
    prefix, slash, word = key.rpartition("/")
    right_prefix = is_subdomain(prefix) if slash else not prefix
    return right_prefix and len(word) <= 63 and bool(_WORD.fullmatch(word))


def is_label_value(value: str) -> bool:
    """Whether it may be the value of a label."""
    return not value or (len(value) <= 63 and bool(_WORD.fullmatch(value)))


def nearest(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """A remedy: the known word most like ``word``, else ``otherwise``."""
    near = difflib.get_close_matches(word, sorted(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else otherwise
