"""The fake API server's HTTP side."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import yaml

from kube_server import kinds, requests, websocket
from kube_server.admission import Refusal
from kube_server.faults import Faults
from kube_server.requests import Target
from kube_server.store import Store, Thing

TOKEN = "the fake's token"
Exec = Callable[[str, list[str]], tuple[int, str, str]]


class KubeServer:
    """A fake Kubernetes, on a port of its own, for one test."""

    def __init__(self, *extras: dict[str, kinds.Kinds]) -> None:
        self.store = Store()
        self.faults = Faults()
        self.served: dict[str, kinds.Kinds] = {**kinds.CORE, **kinds.KUBERAY}
        for extra in extras:
            self.served |= extra
        self.logs: dict[tuple[str, bool], str] = {}
        """By pod, and whether of the container before."""
        self.pod_ports: dict[int, tuple[str, int]] = {}
        """Where connections to a pod's port really go."""
        self.exec: Exec = lambda pod, command: (0, " ".join(command), "")
        self.forbidden: list[tuple[str, str]] = []
        """Method and part of the path of what the caller may not do."""
        self.bookmark_s = 5.0
        self._watches: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.kube = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.namespace("default")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stopping = True
        with self.store.changed:
            self.store.changed.notify_all()
        self.cut_watches()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def namespace(self, name: str) -> None:
        """Make a namespace."""
        self.store.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def kubeconfig(self, folder: Path, namespace: str = "default") -> Path:
        """A kubeconfig for it."""
        context = {"cluster": "fake", "user": "tester", "namespace": namespace}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "tester", "user": {"token": TOKEN}}],
            "contexts": [{"name": "fake", "context": context}],
        }
        self.kubeconfig_path = folder / "kubeconfig"
        self.kubeconfig_path.write_text(yaml.safe_dump(content))
        return self.kubeconfig_path

    def cut_watches(self) -> int:
        """Reset all watches that are open; how many."""
        cut = list(self._watches)
        for connection in cut:
            _reset(connection)
        return len(cut)

    def num_watches(self) -> int:
        """How many are open."""
        return len(self._watches)

    def watched(self, connection: socket.socket, on: bool) -> None:
        """A watch has begun or ended."""
        (self._watches.add if on else self._watches.discard)(connection)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    kube: KubeServer
    stopping = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that break are what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _handle(self) -> None:
        kube = self.server.kube
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else {}
        fault, after_s = kube.faults.draw(self.command, self.path)
        if fault == "reset":
            return self._cut()
        if isinstance(fault, int):
            told = {"kind": "Status", "message": "injected", "reason": "Injected", "code": fault}
            return self._answer(fault, told, after_s)
        try:
            self._authorize()
            answer = self._carry_out(body)
        except Refusal as refusal:
            return self._answer(refusal.status, refusal.body)
        if fault == "lost":
            return self._cut()
        if answer is not None:
            self._answer(201 if self.command == "POST" else 200, answer)
        return None

    do_GET = do_POST = do_PATCH = do_DELETE = _handle

    def _carry_out(self, body: Any) -> Thing | None:
        """The answer; None if it was given already."""
        kube = self.server.kube
        url = urlsplit(self.path)
        asked = parse_qs(url.query)
        query = {name: values[0] for name, values in asked.items()}
        target = requests.parse(url.path, kube.served)
        if isinstance(target, str):
            return _discovery(target, kube.served[target])
        if target.subresource:
            return self._subresource(target, query, asked)
        if self.command == "GET" and query.get("watch") == "true":
            return self._watch(target, query)
        if self.command == "GET":
            if target.name:
                return requests.get(kube.store, target)
            return requests.listed(kube.store, target, query)
        if self.command == "POST":
            return requests.create(kube.store, target, body, query)
        if self.command == "DELETE":
            return requests.delete(kube.store, target, body)
        if self.headers["Content-Type"] == "application/json-patch+json":
            return requests.patch(kube.store, target, body, query)
        assert self.headers["Content-Type"] == "application/apply-patch+yaml"
        return requests.apply(kube.store, target, body, query)

    def _authorize(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Refusal(401, "Unauthorized", "Unauthorized")
        for method, path in self.server.kube.forbidden:
            if method == self.command and path in self.path:
                told = f'User "tester" cannot {method.lower()} {self.path}'
                raise Refusal(403, "Forbidden", f"forbidden: {told}")

    def _subresource(
        self, target: Target, query: dict[str, str], asked: dict[str, list[str]]
    ) -> None:
        kube = self.server.kube
        assert target.name is not None
        requests.get(kube.store, target)
        if target.subresource == "log":
            text = kube.logs.get((target.name, query.get("previous") == "true"), "")
            lines = text.splitlines(keepends=True)[-int(query.get("tailLines", 10**6)) :]
            return self._text("".join(lines))
        line = self._upgrade()
        if target.subresource == "exec":
            _execute(line, kube.exec(target.name, asked["command"]))
        else:
            port = int(query["ports"])
            websocket.forward(line, port, kube.pod_ports.get(port, ("127.0.0.1", 1)))
        return None

    def _watch(self, target: Target, query: dict[str, str]) -> None:
        store, kube = self.server.kube.store, self.server.kube
        version = int(query["resourceVersion"])
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        kube.watched(self.connection, True)
        ends = time.monotonic() + int(query.get("timeoutSeconds", 3600))
        try:
            while not self.server.stopping and time.monotonic() < ends:
                with store.changed:
                    if version < store.oldest:
                        gone = {"kind": "Status", "code": 410, "reason": "Expired"}
                        self._chunk({"type": "ERROR", "object": {**gone, "message": "too old"}})
                        break
                    news = [change for change in store.history if change.version > version]
                    if not news and not store.changed.wait(kube.bookmark_s):
                        version = store.version
                        self._bookmark(target, version)
                        continue
                for change in news:
                    version = change.version
                    if _concerns(change.thing, target) and requests.chosen(change.thing, query):
                        self._chunk({"type": change.type, "object": change.thing})
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
        finally:
            kube.watched(self.connection, False)

    def _bookmark(self, target: Target, version: int) -> None:
        metadata = {"resourceVersion": str(version)}
        thing = {"apiVersion": target.api_version, "kind": target.kind, "metadata": metadata}
        self._chunk({"type": "BOOKMARK", "object": thing})

    def _chunk(self, event: Thing) -> None:
        data = json.dumps(event).encode() + b"\n"
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _upgrade(self) -> websocket.WebSocket:
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        key = websocket.accept_key(self.headers["Sec-WebSocket-Key"])
        self.send_header("Sec-WebSocket-Accept", key)
        self.send_header("Sec-WebSocket-Protocol", websocket.PROTOCOL)
        self.end_headers()
        self.close_connection = True
        return websocket.WebSocket(self.connection, self.rfile)  # type: ignore[arg-type]

    def _answer(self, status: int, thing: Thing, retry_after_s: int | None = None) -> None:
        data = json.dumps(thing).encode()
        self.send_response(status)
        if retry_after_s is not None:
            self.send_header("Retry-After", str(retry_after_s))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _text(self, text: str) -> None:
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _cut(self) -> None:
        self.close_connection = True
        _reset(self.connection)


def _concerns(thing: Thing, target: Target) -> bool:
    same = (thing["apiVersion"], thing["kind"]) == (target.api_version, target.kind)
    return same and target.namespace in (None, thing["metadata"].get("namespace"))


def _discovery(api_version: str, served: kinds.Kinds) -> Thing:
    resources = [
        {"kind": kind, "name": plural, "namespaced": namespaced, "verbs": []}
        for kind, (plural, namespaced) in served.items()
    ]
    return {"kind": "APIResourceList", "groupVersion": api_version, "resources": resources}


def _execute(line: websocket.WebSocket, ended: tuple[int, str, str]) -> None:
    code, stdout, stderr = ended
    for channel, text in ((1, stdout), (2, stderr)):
        if text:
            line.send(channel, text.encode())
    status: Thing = {"status": "Success"}
    if code:
        causes = [{"reason": "ExitCode", "message": str(code)}]
        status = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
    line.send(3, json.dumps(status).encode())
    line.close()


def _reset(connection: socket.socket) -> None:
    """Close with RST instead of FIN, also under a thread that is using it."""
    with contextlib.suppress(OSError):
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
