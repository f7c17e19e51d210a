"""Live copies of objects: one list, then a watch that goes on whatever happens to it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from eksml.backends.kube.client import KubeClient, selectors
from eksml.backends.kube.objects import Object, Ref
from eksml.backends.kube.refusals import Expired, NotServed, Refused, Unreachable
from eksml.errors import EksmlError

_STREAM_S = 240
"""The server ends a stream after this; it goes on where it was."""
_SILENCE_S = 120.0
"""A stream that is silent for longer is taken for dead: a server sends bookmarks every minute."""
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True)
class Selection:
    """Which objects to follow."""

    api_version: str
    kind: str
    namespace: str | None
    """None: all namespaces."""
    labels: str = ""
    fields: str = ""
    optional: bool = False
    """Nothing is shown where the kind is not installed or may not be read, instead of an error."""


class Live:
    """Live copies of what ``selections`` choose, while the ``with`` block lasts.

    A closed or broken stream goes on at the last resource version that was seen, bookmarks
    included; one that is too old (410) starts with a new list. Order between selections is not
    guaranteed. To be used from one thread.
    """

    def __init__(self, client: KubeClient, selections: Sequence[Selection]) -> None:
        self._changed = threading.Condition()
        self._changes = 0
        self._seen = 0
        self._failure: EksmlError | None = None
        self._followers = [_Follower(client, chosen, self) for chosen in selections]

    def __enter__(self) -> Self:
        for follower in self._followers:
            follower.start()
        return self

    def __exit__(self, *_: object) -> None:
        for follower in self._followers:
            follower.stop()
        for follower in self._followers:
            follower.join(timeout=2)

    def objects(self, kind: str) -> list[Object]:
        """The objects of a kind now, by name; empty until the first list has arrived."""
        with self._changed:
            found = [
                thing
                for follower in self._followers
                if follower.selection.kind == kind
                for thing in follower.copies.values()
            ]
        return sorted(found, key=lambda thing: str(thing["metadata"]["name"]))

    @property
    def complete(self) -> bool:
        """Whether every selection has been listed once."""
        return all(follower.listed for follower in self._followers)

    def wait(self, timeout_s: float) -> bool:
        """Until something changed since the last call; False after ``timeout_s`` without.

        Raises:
            ClusterError: a selection that is not optional cannot be followed.
        """
        with self._changed:
            changed = self._changed.wait_for(self._news, timeout=max(0.0, timeout_s))
            self._seen = self._changes
            if self._failure is not None:
                raise self._failure
            return changed

    def _news(self) -> bool:
        return self._changes != self._seen or self._failure is not None

    def tell(self, failure: EksmlError | None = None) -> None:
        """A follower has something new. The caller holds no lock."""
        with self._changed:
            self._failure = self._failure or failure
            self._changes += 1
            self._changed.notify_all()

    @property
    def lock(self) -> threading.Condition:
        """Held while copies are changed."""
        return self._changed


class _Follower(threading.Thread):
    """Follows one selection."""

    def __init__(self, client: KubeClient, selection: Selection, live: Live) -> None:
        super().__init__(name=f"watch {selection.kind}", daemon=True)
        self.selection = selection
        self.copies: dict[tuple[str, str], Object] = {}
        """By namespace and name."""
        self.listed = False
        self._client = client
        self._live = live
        self._ending = threading.Event()
        self._response: Any = None

    def stop(self) -> None:
        """End soon: a stream that waits is woken."""
        self._ending.set()
        with suppress(Exception):  # there may be none, or it may just have ended
            self._response.shutdown()

    def run(self) -> None:
        version = ""
        pause = _FIRST_PAUSE_S
        while not self._ending.is_set():
            began = time.monotonic()
            try:
                version = self._follow(version or self._list())
            except Expired:
                version = ""
            except Unreachable:
                pass  # asked for again; whoever waits has a deadline of its own
            except EksmlError as error:
                missing = isinstance(error, (NotServed, Refused)) and self.selection.optional
                self.listed = True
                self._live.tell(None if missing else error)
                return
            lasted_s = time.monotonic() - began
            pause = _FIRST_PAUSE_S if lasted_s > 1 else min(2 * pause, _LONGEST_PAUSE_S)
            self._ending.wait(pause)

    def _list(self) -> str:
        chosen = self.selection
        listed = self._client.list(
            chosen.api_version,
            chosen.kind,
            chosen.namespace,
            labels=chosen.labels,
            fields=chosen.fields,
        )
        with self._live.lock:
            self.copies = {_key(thing): thing for thing in listed.items}
        self.listed = True
        self._live.tell()
        return listed.resource_version

    def _follow(self, version: str) -> str:
        """Until the stream ends; returns the version at which to go on."""
        from urllib3.exceptions import HTTPError

        chosen = self.selection
        path = self._client.collection(chosen.api_version, chosen.kind, chosen.namespace)
        query = {
            **selectors(chosen.labels, chosen.fields),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(_STREAM_S),
        }
        response = self._client.open(path, query, f"the {chosen.kind}s", read_s=_SILENCE_S)
        self._response, events = response, _events(response)
        try:
            # Asked after the response is where stop() finds it: one of the two sees the other
            while not self._ending.is_set() and (event := next(events, None)):
                version = self._take(event)
        except (HTTPError, OSError, ValueError):
            return version  # broken in the middle: nothing that was seen is lost
        finally:
            response.close()
        return version

    def _take(self, event: dict[str, Any]) -> str:
        kind, thing = event["type"], event["object"]
        if kind == "ERROR":
            told = f"{thing.get('reason')}: {thing.get('message')}"
            raise Expired(told) if thing.get("code") == 410 else Unreachable(told)
        if kind != "BOOKMARK":
            with self._live.lock:
                if kind == "DELETED":
                    self.copies.pop(_key(thing), None)
                else:
                    self.copies[_key(thing)] = thing
            self._live.tell()
        return str(thing["metadata"]["resourceVersion"])


def wait_gone(client: KubeClient, ref: Ref, timeout_s: float) -> bool:
    """Wait until the object is deleted; whether it is.

    Raises:
        ClusterError: it cannot be watched.
    """
    fields = f"metadata.name={ref.name}"
    chosen = Selection(ref.api_version, ref.kind, ref.namespace or "", fields=fields)
    deadline = time.monotonic() + timeout_s
    with Live(client, [chosen]) as live:
        while not live.complete or live.objects(ref.kind):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            live.wait(left_s)
    return True


def _events(response: Any) -> Iterator[dict[str, Any]]:
    """The JSON lines of a stream. A line that is cut off is dropped with the stream."""
    rest = b""
    for chunk in response.stream():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield json.loads(line)


def _key(thing: Object) -> tuple[str, str]:
    metadata = thing["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
