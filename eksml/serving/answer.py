"""What an answer tells of itself while it passes: when it began, what it cost, whether it failed.

No event is parsed and none is asked for. vLLM leaves the tokens of a text answer in the request's
ASGI state, where middleware is meant to read them, whether the client asked for its usage or not.
Embeddings, for which it doesn't, have theirs at the end of their one JSON object.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

_ERROR = b'data: {"error":'
"""How an event that tells an error begins; every other one begins with its id."""
_USAGE = b'"usage":{'
_TAIL = 1024


class Answer:
    """One answer on its way to its client. Show it every message, in order.

    Args:
        scope: The request's; it is given a ``state`` if it has none, which must be the same for the
            application below.
        clock: Seconds.
        arrived_s: When the request arrived, by the clock.
    """

    def __init__(
        self, scope: MutableMapping[str, Any], clock: Callable[[], float], arrived_s: float
    ) -> None:
        self._state: Mapping[str, Any] = scope.setdefault("state", {})
        self._clock = clock
        self._arrived_s = arrived_s
        self._streams = False
        self._num_events = 0
        self._tail = b""
        self.status = 0
        """The status that was sent, 0 before it is."""
        self.ttft_s: float | None = None
        """From the request's arrival to the first event; None unless it streams."""
        self.failed = False
        """Whether an error was sent in the middle of the stream."""

    def see(self, message: Mapping[str, Any]) -> None:
        """Look at a message that is sent."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._streams = _is_stream(message.get("headers", ()))
        elif body := message.get("body"):
            if self._streams:
                self._event(body)
            else:
                self._tail = body[-_TAIL:]

    def _event(self, body: bytes) -> None:
        if self.ttft_s is None:
            self.ttft_s = self._clock() - self._arrived_s
        self._num_events += 1
        if body.startswith(_ERROR):
            self.failed = True

    def tokens(self) -> tuple[int | None, int | None]:
        """Tokens of the prompt and of the answer so far, each None if nobody said.

        Of a stream that was cut the answer's are its events: under load, when several tokens travel
        in one, there were more.
        """
        told = getattr(self._state.get("request_metadata"), "final_usage_info", None)
        if told is not None:
            return told.prompt_tokens, told.completion_tokens or 0
        usage = _usage(self._tail)
        if usage is not None:
            return _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens", 0))
        return None, self._num_events if self._streams else None


def _is_stream(headers: Any) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in headers
    )


def _usage(tail: bytes) -> dict[str, Any] | None:
    at = tail.rfind(_USAGE)
    if at < 0:
        return None
    try:
        usage, _ = json.JSONDecoder().raw_decode(tail[at + len(_USAGE) - 1 :].decode())
    except ValueError:
        return None
    return usage if isinstance(usage, dict) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None
