"""A fake of Ray's dashboard, as far as eksml asks it: version, live nodes, with the token."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class FakeDashboard:
    """Answers as the dashboard of a Ray whose nodes have the addresses that ``ips`` gives."""

    def __init__(self, ips: Callable[[], list[str]], token: Callable[[], str]) -> None:
        dashboard = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                dashboard.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._ips = ips
        self._token = token
        self._started_s = time.time()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._server.server_address[1]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One request."""
        if request.headers.get("Authorization") != f"Bearer {self._token()}":
            request.send_error(403)
            return
        body: dict[str, Any] = {"ray_version": "2.60.0"}
        if request.path.startswith("/api/v0/nodes"):
            nodes = [
                {
                    "node_id": f"node-{ip}",
                    "node_ip": ip,
                    "is_head_node": index == 0,
                    "resources_total": {"CPU": 4.0},
                    "labels": {"ray.io/node-group": "headgroup"} if index == 0 else {},
                    "state": "ALIVE",
                    "start_time_ms": 1000 * self._started_s,
                    "end_time_ms": 0,
                }
                for index, ip in enumerate(self._ips())
            ]
            body = {"data": {"result": {"result": nodes}}}
        data = json.dumps(body).encode()
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)
