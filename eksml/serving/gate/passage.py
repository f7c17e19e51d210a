"""The way of an answer from the application below to its client, which always ends in the open.

Nothing is sent before the first byte of the body is there. So until then whatever goes wrong gets a
status of its own, and a proxy may ask another replica. Afterwards a stream that can't be finished
ends with an error event and without ``[DONE]``, and any other answer by a broken connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from eksml.serving.answer import Answer
from eksml.serving.gate.asgi import ASGIApp, Headers, Message, Receive, Scope, Send
from eksml.serving.gate.ending import Ending, Reason
from eksml.serving.gate.engine_state import EngineState
from eksml.serving.gate.errors import CLIENT_GONE, Refused, cut_short, engine_lost

LAST_WORDS_S = 5.0
"""Seconds that a client has to take the last event; one that reads nothing would hold us up."""

_DONE = b"data: [DONE]"

logger = logging.getLogger("eksml.serving")


class Passage:
    """One answer's.

    Args:
        send: To the client.
        engine: Whether it lives.
        ending: Whether the request still matters.
        answer: Shown all that is sent.
        headers: What is added to the answer's headers; asked once.
        began: Called before the first byte is sent.
    """

    def __init__(
        self,
        send: Send,
        engine: EngineState,
        ending: Ending,
        answer: Answer,
        headers: Callable[[], Headers],
        began: Callable[[], None],
    ) -> None:
        self._client = send
        self._engine = engine
        self._ending = ending
        self._answer = answer
        self._headers = headers
        self._began = began
        self._held: Message | None = None
        self._begun = False
        self._streams = False
        self._lost = False
        self._raised = False
        self._complete = False
        self.status = 0
        """What was sent, or 499."""
        self.code = ""
        """Of the error that was sent; empty if none was."""

    @property
    def well(self) -> bool:
        """Whether a whole answer was sent that is none of a failed engine."""
        return self._complete and not self._answer.failed and self.status < 500

    @property
    def unheard(self) -> bool:
        """Whether nothing was sent."""
        return not self._begun

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Let the application answer. Raises nothing of what it raises: see ``close``."""
        try:
            await app(scope, receive, self._send)
        except Exception:
            self._raised = True
            if self._ending.reason is None:
                logger.exception("The application failed at %s.", scope["path"])

    async def close(self, refused: Refused | None) -> None:
        """Send what there is to say at the end: nothing after a whole answer or to nobody.

        Args:
            refused: Why the request was ended, if the application was not to blame.
        """
        if self._complete:
            return
        if self._ending.reason is Reason.GONE:
            self.status = CLIENT_GONE
        else:
            await self._tell(refused or self._failure())

    def _failure(self) -> Refused:
        if self._lost or not self._engine.alive:
            if self._begun:
                return cut_short("the model's engine failed")
            return engine_lost()
        if self._begun:
            return cut_short("the server failed")
        return Refused(500, "internal_error", "The server failed. Its log tells more.")

    async def _tell(self, refused: Refused) -> None:
        self.code = refused.code
        if not self._begun:
            self.status = refused.status
            await refused.send(self._client, self._headers())
        elif self._streams:
            last = {"type": "http.response.body", "body": refused.event(), "more_body": False}
            try:
                await asyncio.wait_for(self._client(last), LAST_WORDS_S)
            except TimeoutError:
                logger.warning("A client that read nothing more was cut off.")

    async def _send(self, message: Message) -> None:
        if self._ending.reason is not None or self._lost:
            return
        kind = message["type"]
        if kind == "http.response.start":
            self._held = message
        elif kind != "http.response.body":
            await self._client(message)
        elif self._begun or await self._begin(message):
            self._answer.see(message)
            if self._answer.failed and message.get("body", b"").startswith(_DONE):
                message = {**message, "body": b""}
            await self._client(message)
            if not message.get("more_body", False):
                self._complete = True
                self._ending.rest()

    async def _begin(self, first: Message) -> bool:
        """Send what was held back; whether the answer is worth it."""
        start = self._held
        if start is None:
            return False
        self._answer.see(start)
        self._streams = any(
            name.lower() == b"content-type" and value.startswith(b"text/event-stream")
            for name, value in start.get("headers", ())
        )
        failed = start["status"] >= 500 or _is_error(first)
        if failed and not self._engine.alive:
            self._lost = True
            return False
        if not first.get("body") and first.get("more_body", False):
            return False
        self._begun = True
        self._began()
        self.status = start["status"]
        headers = [*start.get("headers", ()), *self._headers()]
        await self._client({**start, "headers": headers})
        return True


def _is_error(message: Message) -> bool:
    body: bytes = message.get("body", b"")
    return body.startswith(b'data: {"error":')
