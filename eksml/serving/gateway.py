"""Several models under one URL: a request is passed on to the model that its body names.

Passed on through Serve's proxy on the same node, to the route of the model's own application, whose
gate has the limits and queues. Files and batches end here: they are storage, which the workers of
all models look into, so that a batch can be made for a model that has no replica at present.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from eksml.serving.batch_jobs import jobs_app
from eksml.serving.gate.asgi import ASGIApp, Receive, Scope, Send, path_of
from eksml.serving.gate.bodies import parse, read_body
from eksml.serving.gate.door import Call, Door
from eksml.serving.gate.errors import Refused, answer
from eksml.serving.gate.keys import Keyring
from eksml.serving.gate.routes import Kind, routes_of_gateway
from eksml.serving.meters import Meters
from eksml.serving.playground import playground
from eksml.serving.relay import Relay
from eksml.serving.request_meters import meters_of_gateway
from eksml.serving.spec import ServeSpec
from eksml.storage import URI

DEFAULT_ORIGIN = "http://127.0.0.1:8000"


class Gateway:
    """The deployment. Serve calls all of its methods.

    Args:
        args: The fields of a ``ServeSpec``.
        origin: Where Serve's proxy is for this node.
    """

    def __init__(self, args: Mapping[str, Any], origin: str) -> None:
        self._spec = ServeSpec(**args)
        self._origin = origin

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called once, after the constructor: what Serve's ``ingress()`` serves."""
        return Front(self._spec, self._origin, meters_of_gateway())


class Front:
    """The ASGI application in front of several models.

    Args:
        spec: What is served.
        origin: Where the models' applications are.
        meters: Told of the requests that end here, and not of those that are passed on.
    """

    def __init__(self, spec: ServeSpec, origin: str, meters: Meters) -> None:
        self._spec = spec
        self._began = int(time.time())
        self._urls = {
            name: origin + spec.route_of(model)
            for model in spec.models
            for name in model.served_names
        }
        self._relay = Relay()
        self._jobs = self._with_batches()
        self._door = Door(
            routes=routes_of_gateway(spec),
            keys=Keyring(spec, time.monotonic),
            meters=meters,
            app=self._own,
            compute=self._pass_on,
            probe=self._probe,
            most_bytes=spec.limits.body_bytes,
            clock=time.monotonic,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await self._door(scope, receive, send)

    def _with_batches(self) -> ASGIApp | None:
        if self._spec.batches is None:
            return None
        return jobs_app(
            URI.parse(self._spec.batches),
            list(self._urls),
            most_line_bytes=self._spec.limits.body_bytes,
            tenant_of=lambda request: str(request.state.tenant),
        )

    async def _own(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What no model is needed for."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        path = path_of(scope)
        if path == "/v1/models":
            await answer(send, 200, self._models())
        elif path == "/metrics":
            from prometheus_client import make_asgi_app

            await make_asgi_app()(scope, receive, send)
        elif path == "/":
            await playground(scope, receive, send)
        else:
            assert self._jobs is not None, "no other route is allowed"
            await self._jobs(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """From the first to the last request."""
        await receive()
        async with self._relay:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _pass_on(self, call: Call) -> None:
        body = await read_body(call.scope, call.receive, self._spec.limits.body_bytes)
        await self._relay.pass_on(self._url_of(body) + call.route.path, body, call)

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

    async def _probe(self, kind: Kind) -> str:
        """Ready is, when each model is that always has a replica."""
        if kind == "health":
            return "ok"
        models = [model for model in self._spec.models if model.replica_range[0] > 0]
        urls = [self._urls[model.name] for model in models]
        return "ok" if all(await asyncio.gather(*map(self._relay.is_ready, urls))) else "not ready"
