"""A stand-in for a server with OpenAI's protocol, for its faults only: it computes nothing.

The first word of a prompt says what happens to the requests with that prompt, in order; the last
one goes on for all later ones. ``429,ok: hello`` is refused once and answered then. What works is
tested on a real server beside it.

=========  =====================================================
``ok``     the text after the colon, in capital letters
``429``    with ``Retry-After: 0.2``; any other status likewise
``hang``   no answer
``cut``    half an answer, then the connection ends
``empty``  an answer without choices
``text``   an answer that is no JSON
=========  =====================================================
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class OpenAIFaults:
    """A server in this process. Use it as a context manager.

    Args:
        key: The key that it lets in; None for any.
        models: Whether it has a list of models.
        port: Its port; a free one unless given.
    """

    def __init__(self, key: str | None = None, *, models: bool = True, port: int = 0) -> None:
        self.key = key
        self.models = models
        self.bodies: list[dict[str, Any]] = []
        self.at_s: list[float] = []
        self.broken = False
        self.in_flight = 0
        self.most_in_flight = 0
        self.seen: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def break_off(self) -> None:
        """Die: open connections end, and no new ones are taken."""
        self.broken = True
        self._server.shutdown()
        self._server.socket.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        faults = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if faults.broken:
                    self.close_connection = True
                    return
                if not faults.lets_in(self):
                    return
                if not faults.models:
                    faults.answer(self, 404, {"error": {"message": "no such route"}})
                    return
                faults.answer(self, 200, {"object": "list", "data": []})

            def do_POST(self) -> None:
                if faults.broken:
                    self.close_connection = True
                    return
                size = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(size))
                if faults.lets_in(self):
                    faults.post(self, body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def lets_in(self, handler: BaseHTTPRequestHandler) -> bool:
        given = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.key is None or given == self.key:
            return True
        self.answer(handler, 401, {"error": {"message": f"Incorrect API key provided: {given}"}})
        return False

    def post(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        prompt = body.get("prompt") or body.get("input") or body["messages"][-1]["content"]
        plan, _, text = prompt.partition(":")
        with self.lock:
            self.bodies.append(body)
            self.at_s.append(time.monotonic())
            step = plan.split(",")[min(self.seen[prompt], plan.count(","))]
            self.seen[prompt] += 1
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            self._do(handler, step, text.strip())
        finally:
            with self.lock:
                self.in_flight -= 1

    def _do(self, handler: BaseHTTPRequestHandler, step: str, text: str) -> None:
        if step == "ok":
            time.sleep(0.01)
            self.answer(handler, 200, _reply(handler.path, text.upper()))
        elif step == "hang":
            self.released.wait(30)
        elif step == "cut":
            handler.send_response(200)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b'{"choices": [')
            handler.close_connection = True
        elif step == "empty":
            self.answer(handler, 200, {"choices": [], "data": []})
        elif step == "text":
            self.answer(handler, 200, "busy")
        else:
            self.answer(handler, int(step), {"error": {"message": f"refused with {step}"}})

    def answer(self, handler: BaseHTTPRequestHandler, status: int, body: Any) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        handler.send_response(status)
        kind = "text/plain" if isinstance(body, str) else "application/json"
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data)))
        if status == 429:
            handler.send_header("Retry-After", "0.2")
        handler.end_headers()
        handler.wfile.write(data)


def _reply(path: str, text: str) -> dict[str, Any]:
    usage = {"prompt_tokens": 3, "completion_tokens": len(text), "total_tokens": 3 + len(text)}
    if path.endswith("/embeddings"):
        data = [{"object": "embedding", "index": 0, "embedding": [float(len(text)), 0.5]}]
        return {"object": "list", "data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}}
    if path.endswith("/chat/completions"):
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
    else:
        choice = {"text": text}
    return {"choices": [{"index": 0, "finish_reason": "stop", **choice}], "usage": usage}
