"""A fake of the two AWS services that moto lacks: Pod Identity associations and EC2's quotas.

It is a fake: it answers what a test told it, over real HTTP, in the services' own protocols.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class FakeAws:
    """Serves on a free port until it is closed."""

    def __init__(self) -> None:
        self.associations: dict[tuple[str, str], str] = {}
        """``(namespace, service account)`` → role's ARN."""
        self.quotas: dict[str, float] = {}
        """The account's own."""
        self.default_quotas: dict[str, float] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def pod_identity(self, path: str, query: dict[str, list[str]]) -> dict[str, Any]:
        """EKS' rest-json: the list, or one association by its id."""
        parts = path.strip("/").split("/")
        if len(parts) == 4:
            namespace, _, account = parts[3].partition(".")
            role = self.associations[namespace, account]
            return {"association": {"associationId": parts[3], "roleArn": role}}
        asked = (query["namespace"][0], query["serviceAccount"][0])
        found = [{"associationId": ".".join(asked)}] if asked in self.associations else []
        return {"associations": found}

    def quota(self, operation: str, code: str) -> dict[str, Any] | None:
        """Service Quotas' JSON 1.1; None: no such quota."""
        values = self.quotas if operation == "GetServiceQuota" else self.default_quotas
        return {"Quota": {"QuotaCode": code, "Value": values[code]}} if code in values else None


def _handler(fake: FakeAws) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            self._answer(200, fake.pod_identity(url.path, parse_qs(url.query)))

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            operation = self.headers["X-Amz-Target"].partition(".")[2]
            found = fake.quota(operation, asked["QuotaCode"])
            missing = {"__type": "NoSuchResourceException", "Message": "no such quota"}
            self._answer(200 if found else 400, found or missing)

        def _answer(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
