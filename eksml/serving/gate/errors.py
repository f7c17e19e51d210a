"""What a client is told instead of an answer, in the shape that OpenAI's clients read.

Which status means what to the proxy before us: :data:`RETRY_STATUS` says «not here, but another
replica may», and is only sent while nothing of an answer has been. All other refusals are final, so
none of them is 503: an HAProxy that repeats them would multiply an overload.
"""

from __future__ import annotations

import json

from eksml.serving.gate.asgi import Headers, Send

RETRY_STATUS = 503
RETRY_ON = f"conn-failure empty-response {RETRY_STATUS}"
"""For ``RAY_SERVE_HAPROXY_RETRY_ON``: a replica that is gone, that was killed before its first
byte, or whose engine was. Repeating is safe, as computing an answer twice changes nothing. HAProxy
repeats only what its buffer holds whole: ``RAY_SERVE_HAPROXY_TUNE_BUFSIZE``, 16 KiB by default,
bounds the bodies that can be rescued."""
CLIENT_GONE = 499
"""In metrics, for a client that left before the end; never sent. The number is nginx's."""

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Refused(Exception):
    """An error for the client. Raised and caught inside the gate; nobody else ever sees it.

    Args:
        status: Of HTTP.
        code: For programs; also the reason in metrics, so one of few.
        message: For people: what is wrong, on which value, what to do.
        param: The field of the body that is meant.
        retry_after_s: When to come again.
        headers: Further headers.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = list(headers or ())
        if retry_after_s is not None:
            self.headers.append((b"retry-after", str(retry_after_s).encode()))

    def body(self) -> bytes:
        """``{"error": {message, type, param, code}}``."""
        default = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {
            "message": str(self),
            "type": _TYPES.get(self.status, default),
            "param": self.param,
            "code": self.code,
        }
        return json.dumps({"error": error}).encode()

    def event(self) -> bytes:
        """The same as a server-sent event, for an answer that is under way."""
        return b"data: " + self.body() + b"\n\n"

    async def send(self, send: Send, headers: Headers | None = None) -> None:
        """Answer with it."""
        await answer(send, self.status, self.body(), [*self.headers, *(headers or ())])


async def answer(send: Send, status: int, body: bytes, headers: Headers | None = None) -> None:
    """A whole answer in JSON."""
    told = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *(headers or ()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})


def engine_lost() -> Refused:
    """Nothing was sent yet and this engine won't: another replica's may."""
    told = "The model's engine is not ready on this replica. Try again in a moment."
    return Refused(RETRY_STATUS, "engine_unavailable", told, retry_after_s=1)


def cut_short(why: str) -> Refused:
    """An answer broke off in the middle."""
    return Refused(500, "answer_cut_short", f"The answer ends here unfinished: {why}. Ask again.")


def too_late(deadline_s: float) -> Refused:
    """The deadline has passed."""
    told = f"The request was not answered within its {deadline_s:g} s, and was ended."
    return Refused(504, "deadline_exceeded", told)
