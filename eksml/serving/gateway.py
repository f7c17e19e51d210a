"""Several models under one URL: a request is passed on to the model that its body names.

Passed on over HTTP, byte for byte and chunk by chunk, through Serve's proxy on the same node, to
the route of the model's own application. Keys, limits and queues are those of the model's gate.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eksml.serving.gate.asgi import ASGIApp, Headers, Receive, Scope, Send, header, path_of
from eksml.serving.gate.bodies import ClientGone, parse, read_body
from eksml.serving.gate.errors import Refused, answer, cut_short
from eksml.serving.gate.keys import Keyring
from eksml.serving.playground import playground
from eksml.serving.spec import ServeSpec

if TYPE_CHECKING:
    import aiohttp

DEFAULT_ORIGIN = "http://127.0.0.1:8000"
COMPUTE = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
CONNECT_S = 5.0
_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"te", b"trailer"),
        *(b"host", b"content-length", b"expect"),
    }
)
"""Headers of one connection, not of the message."""


class Gateway:
    """The deployment. Serve calls all of its methods.

    Args:
        args: The fields of a ``ServeSpec``.
        origin: Where Serve's proxy is for this node.
    """

    def __init__(self, args: Mapping[str, Any], origin: str) -> None:
        spec = self._spec = ServeSpec(**args)
        self._began = int(time.time())
        self._keys = Keyring(spec.app(spec.models[0]), time.monotonic)
        self._urls = {
            name: origin + spec.route_of(model)
            for model in spec.models
            for name in model.served_names
        }
        self._session: aiohttp.ClientSession | None = None

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called once, after the constructor: what Serve's ``ingress()`` serves."""
        return self.asgi

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            try:
                await self._http(scope, receive, send)
            except Refused as refused:
                await refused.send(send)
            except ClientGone:
                pass
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Has the connections to the models from the first to the last request."""
        import aiohttp

        await receive()
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S),
            auto_decompress=False,
        ) as self._session:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], path_of(scope)
        if path in COMPUTE:
            if method != "POST":
                told = f"{method[:16]} is not possible at {path}. Use POST."
                raise Refused(405, "method_not_allowed", told, headers=[(b"allow", b"POST")])
            body = await read_body(scope, receive, self._spec.limits.body_bytes)
            await self._pass_on(self._url_of(body) + path, body, scope, receive, send)
        elif path == "/v1/models" and method == "GET":
            self._keys.tenant_of(header(scope, b"authorization"))
            await answer(send, 200, self._models())
        elif path == "/health":
            await answer(send, 200, b'{"status":"ok"}')
        elif path == "/ready":
            ready = await self._all_ready()
            await answer(send, 200 if ready else 503, json.dumps({"ready": ready}).encode())
        elif path == "/" and method in ("GET", "HEAD"):
            await playground(scope, receive, send)
        else:
            told = f"Unknown URL ({method[:16]} {path[:128]!r}). The API begins at /v1."
            raise Refused(404, "unknown_url", told)

    def _url_of(self, body: bytes) -> str:
        name = parse(body).get("model")
        url = self._urls.get(name) if isinstance(name, str) else None
        if url is None:
            told = f"The model {str(name)[:128]!r} does not exist. Ask GET /v1/models."
            raise Refused(404, "model_not_found", told, param="model")
        return url

    def _models(self) -> bytes:
        """As vLLM tells them; without asking it, for a model may have no replica at present."""
        base = {"object": "model", "created": self._began, "owned_by": "eksml"}
        data = [
            base | {"id": name, "parent": None if name == model.name else model.name}
            for model in self._spec.models
            for name in model.served_names
        ]
        return json.dumps({"object": "list", "data": data}).encode()

    async def _all_ready(self) -> bool:
        """Whether each model that always has a replica is ready."""
        models = [model for model in self._spec.models if model.replica_range[0] > 0]
        answers = await asyncio.gather(*(self._ready(self._urls[model.name]) for model in models))
        return all(answers)

    async def _ready(self, url: str) -> bool:
        import aiohttp

        assert self._session is not None
        try:
            async with self._session.get(f"{url}/ready") as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def _pass_on(
        self, url: str, body: bytes, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Ends when the answer does, or the client leaves, which the model's replica then sees."""
        passing = asyncio.ensure_future(self._exchange(url, body, scope, send))
        leaving = asyncio.ensure_future(_left(receive))
        await asyncio.wait([passing, leaving], return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not passing.done():
            passing.cancel()
            raise ClientGone
        await passing

    async def _exchange(self, url: str, body: bytes, scope: Scope, send: Send) -> None:
        import aiohttp

        assert self._session is not None
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in scope["headers"]
            if name not in _HOP
        ]
        begun: aiohttp.ClientResponse | None = None
        try:
            async with self._session.post(url, data=body, headers=headers) as response:
                await _start(response, send)
                begun = response
                async for chunk in response.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if begun is None:
                told = "The model has no replica that answers. Try again in a moment."
                raise Refused(503, "model_unavailable", told, retry_after_s=1) from error
            if not begun.content_type.startswith("text/event-stream"):
                raise  # the connection is broken off, which no client takes for an end
            last = cut_short("the model's replica is gone").event()
            await send({"type": "http.response.body", "body": last})


async def _start(response: aiohttp.ClientResponse, send: Send) -> None:
    headers: Headers = [
        (name, value) for name, value in response.raw_headers if name.lower() not in _HOP
    ]
    if response.content_length is not None:
        headers.append((b"content-length", str(response.content_length).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
