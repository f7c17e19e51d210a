"""Find AWS credentials in what is about to travel. They stay home: clusters have their own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from eksml.errors import CallError

# docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html: AKIA long-lived, ASIA
# temporary. The documentation's own samples end in EXAMPLE and are let through.
_KEY_ID = re.compile(rb"(?<![A-Z0-9])(?:AKIA|ASIA)(?![A-Z0-9]{9}EXAMPLE)[A-Z0-9]{16}(?![A-Z0-9])")
_SECRET = re.compile(
    rb"(?i)aws_?(?:secret_?access_?key|session_?token)[\"']?\s*[=:]\s*[\"']?"
    rb"(?![A-Za-z0-9/+=]*EXAMPLE)[A-Za-z0-9/+=]{40}"
)
_NAMES = ("awsaccesskeyid", "secretaccesskey", "awssessiontoken", "awssecret")
REMEDY = (
    "AWS keys never travel. Give the cluster's service account a role (EKS Pod Identity); on a "
    "laptop the usual AWS profile is found by itself."
)


def check_config(config: Any, what: str = "config") -> None:
    """Refuse a configuration that holds AWS credentials, by the names or the look of its values.

    Raises:
        CallError: Names the place, never the value.
    """
    places = list(_credentials(config, what))
    if places:
        raise CallError(f"There are AWS credentials in {', '.join(places)}. {REMEDY}")


def check_bytes(data: bytes, what: str) -> None:
    """Refuse a file or a packed function in which an AWS key can be read.

    Raises:
        CallError: Names ``what``, never the key.
    """
    if _looks_like_a_key(data):
        raise CallError(f"There is an AWS key in {what}. {REMEDY}")


def _credentials(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            place = f"{path}[{key!r}]"
            if item and isinstance(item, str) and _is_name(str(key)):
                yield place
            else:
                yield from _credentials(item, place)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _credentials(item, f"{path}[{index}]")
    elif isinstance(value, str) and _looks_like_a_key(value.encode(errors="replace")):
        yield path


def _is_name(key: str) -> bool:
    letters = re.sub(r"[^a-z]", "", key.lower())
    return any(name in letters for name in _NAMES)


def _looks_like_a_key(data: bytes) -> bool:
    return bool(_KEY_ID.search(data) or _SECRET.search(data))
