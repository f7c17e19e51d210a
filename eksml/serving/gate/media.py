"""From where images, sounds and videos may come: inside the request, or from hosts that are named.

A URL must be written in the plainest way to be let through: scheme, a named host, the scheme's own
port, a path. What parsers disagree on (user names, backslashes, numbers as addresses, IPv6, other
ports) is refused, so that the host which is checked is the host that is asked. vLLM, which fetches,
is told the same hosts by :func:`engine_arguments` and follows no redirect by :data:`ENVIRONMENT`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from eksml.errors import Problem

ENVIRONMENT = {"VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0"}
"""Of the engine's process: a redirect could lead from an allowed host to any other."""

_URL = re.compile(r"https?://([a-z0-9.-]+)(/[!-\[\]-~]*)?", re.IGNORECASE)
_DATA = re.compile(r"data:", re.IGNORECASE)
_NOWHERE = "no-media.invalid"
_PLACES = ("image_url", "audio_url", "video_url", "file_url", "image", "audio", "video", "url")
_TENSORS = ("image_embeds", "audio_embeds", "video_embeds", "prompt_embeds", "image_pil")
_DEEPEST = 8


def engine_arguments(hosts: Collection[str]) -> dict[str, Any]:
    """vLLM's arguments for these hosts. An empty list would allow every host, so it gets a name
    that by RFC 6761 nobody has."""
    return {"allowed_media_domains": sorted(hosts) or [_NOWHERE]}


def url_fault(url: str, hosts: Collection[str]) -> str:
    """Why nothing may be fetched from there; nothing if it may."""
    if _DATA.match(url):
        return ""
    match = _URL.fullmatch(url)
    if match is None:
        return "is not a plain http(s) URL such as https://images.example.com/cat.png"
    if match[1].lower() not in hosts:
        allowed = ", ".join(sorted(hosts)) or "none"
        return f"is of a host from which nothing may be fetched (allowed: {allowed})"
    return ""


def media_problems(path: str, part: Mapping[str, Any], hosts: Collection[str]) -> Iterator[Problem]:
    """What is wrong with one part of a message's content that isn't text."""
    for name in _TENSORS:
        if name in part or part.get("type") == name:
            yield Problem(f"{path}.{name}", "may not be sent to this server.", "Send the image.")
    for place, url in _urls(path, part, _DEEPEST):
        if not isinstance(url, str):
            yield Problem(place, "is not a text.", "Write a URL or data:…")
        elif fault := url_fault(url, hosts):
            yield Problem(place, f"{url[:80]!r} {fault}.", "Send the data itself as a data: URL.")


def _urls(path: str, part: Mapping[str, Any], deepest: int) -> Iterator[tuple[str, Any]]:
    """Everything in it that some version of vLLM's parser takes for a URL."""
    for name, value in part.items():
        if isinstance(value, dict) and deepest:
            yield from _urls(f"{path}.{name}", value, deepest - 1)
        elif name in _PLACES and value is not None:
            yield f"{path}.{name}", value
