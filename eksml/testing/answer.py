"""One answer of a server that speaks OpenAI's protocol, piece by piece as it comes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

from eksml.testing.outcomes import Outcome, Sent


class Answer:
    """What has come so far of one answer."""

    def __init__(self, began: float, now: Callable[[], float]) -> None:
        self._began = began
        self._now = now
        self._chunks: list[float] = []
        self._finish: str | None = None
        self._tokens = 0
        self._ended = 0.0
        self._detail = ""
        self.status: int | None = None
        self.outcome: Outcome | None = None

    @property
    def num_chunks(self) -> int:
        return len(self._chunks)

    def event(self, data: str) -> None:
        """One event of a stream: text, usage, or an error."""
        try:
            event = json.loads(data)
        except ValueError:
            self.end(Outcome.TRUNCATED, f"half an event: {data[:200]}")
            return
        if "error" in event:
            self.end(Outcome.ERROR_EVENT, json.dumps(event["error"])[:300])
            return
        if event.get("usage"):
            self._tokens = event["usage"]["completion_tokens"]
        for choice in event["choices"]:
            self._chunks.append(self._now())
            self._finish = choice.get("finish_reason") or self._finish

    def done(self, asked: int) -> None:
        """The stream said that it was complete."""
        if self._finish != "length" or self._tokens != asked:
            missing = f"[DONE] after {self._tokens} of {asked} tokens, finish {self._finish}"
            self.end(Outcome.TRUNCATED, missing)
        else:
            self.end(Outcome.OK)

    def whole(self, body: bytes, asked: int) -> None:
        """An answer that was not streamed."""
        try:
            self._tokens = json.loads(body)["usage"]["completion_tokens"]
        except (ValueError, KeyError, TypeError):
            self.end(Outcome.TRUNCATED, f"status 200 with {body[:200]!r}")
            return
        if self._tokens == asked:
            self.end(Outcome.OK)
        else:
            self.end(Outcome.TRUNCATED, f"{self._tokens} of {asked} tokens")

    def refused_or_failed(self, headers: Any, text: str) -> None:
        """An answer with another status than 200."""
        polite = self.status == 429 or (self.status == 503 and "Retry-After" in headers)
        self.end(Outcome.REFUSED if polite else Outcome.FAILED, text[:300])

    def end(self, outcome: Outcome, detail: str = "") -> None:
        self.outcome, self._ended, self._detail = outcome, self._now(), detail

    def sent(self, number: int, stream: bool) -> Sent:
        assert self.outcome is not None
        first = self._chunks[0] if self._chunks else None if stream else self._ended
        return Sent(
            number=number,
            began=self._began,
            ended=self._ended,
            outcome=self.outcome,
            stream=stream,
            status=self.status,
            ttft_s=None if first is None else first - self._began,
            itl_s=tuple(b - a for a, b in itertools.pairwise(self._chunks)),
            tokens=self._tokens,
            detail=self._detail,
        )
