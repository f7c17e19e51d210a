"""Lists as OpenAI pages them: newest first, ``limit`` at a time, from ``after`` on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from eksml.serving.batch_jobs.errors import Refusal
from eksml.storage import URI

_LIMIT = 20
_MOST = 100
_READERS = 8


def page_of(
    folder: URI,
    query: Mapping[str, str],
    is_id: Callable[[str], bool],
    view: Callable[[str], dict[str, Any] | None],
) -> dict[str, Any]:
    """One page of what lies in a folder. Blocks.

    Args:
        folder: Holds a folder for each thing.
        query: The request's ``limit``, ``after`` and ``order``.
        is_id: Whether a folder's name is that of a thing.
        view: The thing of that name as the API shows it; None if it is not to be shown.

    Raises:
        Refusal: the query asks for something that is none.
    """
    limit, after, descending = _asked(query)
    names = sorted((uri.name for uri in folder.folders() if is_id(uri.name)), reverse=descending)
    if after is not None:
        names = [name for name in names if (name < after if descending else name > after)]
    with ThreadPoolExecutor(_READERS) as pool:
        # By pages, so that a list of thousands is not read for the sake of twenty
        groups = (pool.map(view, names[at : at + limit]) for at in range(0, len(names), limit))
        found = (shown for group in groups for shown in group if shown is not None)
        shown = list(islice(found, limit + 1))
    data = shown[:limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(shown) > limit,
    }


def _asked(query: Mapping[str, str]) -> tuple[int, str | None, bool]:
    limit, order = query.get("limit", str(_LIMIT)), query.get("order", "desc")
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= _MOST:
        told = f"limit is {limit[:40]!r}: write a number from 1 to {_MOST}."
        raise Refusal(400, "invalid", told, "limit")
    if order not in ("asc", "desc"):
        raise Refusal(400, "invalid", f"order is {order[:40]!r}: write asc or desc.", "order")
    return int(limit), query.get("after"), order == "desc"
