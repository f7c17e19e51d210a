"""A stand-in for a server that streams chat by OpenAI's protocol, and breaks as the prompt says.

============  =========================================================
``endless``   goes on until the client goes away (:attr:`gone` is set)
``cut``       ends in the middle, as if all were said
``die``       tells an error in the middle of the stream
``429``       refuses the request so; any other status likewise
else          four pieces of :data:`TEXT`, and the usage
============  =========================================================
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

MARKUP = "<img src=x onerror=alert(1)> "
TEXT = [f"{MARKUP}é{number} " for number in range(4)]

Page = Callable[[], tuple[dict[str, str], bytes]]


class StreamingServer:
    """A server in this process, under ``/llm``. Use it as a context manager.

    Args:
        key: The key that it lets in; None for any.
        page: Headers and body of what stands at ``/llm`` itself.
    """

    def __init__(self, key: str | None = None, page: Page | None = None) -> None:
        self.key = key
        self.page = page
        self.bodies: list[dict[str, Any]] = []
        self.gone = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/llm"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/llm" and server.page is not None:
                    headers, body = server.page()
                    _send(self, 200, body, headers)
                elif server.lets_in(self):
                    models = [_model("tiny"), _model("large")]
                    _send(self, 200, _json({"object": "list", "data": models}))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.bodies.append(body)
                prompt = body["messages"][-1]["content"]
                if not server.lets_in(self):
                    return
                if prompt.isdecimal():
                    _refuse(self, int(prompt), f"refused with {prompt}")
                else:
                    server.stream(self, prompt)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def lets_in(self, handler: BaseHTTPRequestHandler) -> bool:
        given = handler.headers.get("Authorization", "")
        if self.key is None or given == f"Bearer {self.key}":
            return True
        _refuse(handler, 401, "This server wants a key.")
        return False

    def stream(self, handler: BaseHTTPRequestHandler, prompt: str) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        for piece in TEXT:
            time.sleep(0.02)
            _event(handler, _json(_chunk(piece)))
        if prompt == "cut":
            return
        if prompt == "die":
            _event(handler, _json({"error": {"message": "the engine died", "code": 500}}))
            return
        try:
            while prompt == "endless":
                time.sleep(0.02)
                _event(handler, _json(_chunk("and ")))
        except OSError:
            self.gone.set()
            return
        _event(handler, _json(_chunk("", "stop")))
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        _event(handler, _json({**_chunk(""), "choices": [], "usage": usage}))
        _event(handler, b"[DONE]")


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "eksml"}


def _chunk(text: str, finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    kind = "chat.completion.chunk"
    return {"id": "1", "object": kind, "created": 0, "model": "tiny", "choices": [choice]}


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _event(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    handler.wfile.write(b"data: " + data + b"\n\n")


def _refuse(handler: BaseHTTPRequestHandler, status: int, told: str) -> None:
    _send(handler, status, _json({"error": {"message": told, "type": "x", "code": status}}))


def _send(
    handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None
) -> None:
    handler.send_response(status)
    for name, value in {"content-length": str(len(body)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
