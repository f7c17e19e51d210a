"""The page on which a person tries a model: one file without anything from elsewhere.

The browser is told to run no script but the page's own (by its hash), to speak with no server but
its own, and to show it in no frame. It needs no key itself; what it asks does.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Awaitable, Callable, MutableMapping
from importlib import resources
from typing import Any

_PARTS = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


async def playground(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """An ASGI application that answers every ``GET`` and ``HEAD`` with the page."""
    body, headers = _page()
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


@functools.cache
def _page() -> tuple[bytes, list[tuple[bytes, bytes]]]:
    text = (resources.files("eksml.serving") / "playground.html").read_text(encoding="utf-8")
    headers = {
        "content-type": "text/html; charset=utf-8",
        "content-length": str(len(text.encode())),
        "content-security-policy": policy(text),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }
    return text.encode(), [(name.encode(), value.encode()) for name, value in headers.items()]


def policy(page: str) -> str:
    """The Content-Security-Policy under which a page with inline scripts and styles runs."""
    allowed: dict[str, list[str]] = {"script": [], "style": []}
    for kind, text in _PARTS.findall(page):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        allowed[kind].append(f"'sha256-{digest}'")
    return "; ".join(
        [
            "default-src 'none'",
            *(f"{kind}-src {' '.join(hashes)}" for kind, hashes in allowed.items()),
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
