"""Several models under one URL, before models that are stand-ins: what passes, and how."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from eksml.observe.access_log import Access
from eksml.serving import ModelSpec, ServeSpec, TenantSpec
from eksml.serving.gateway import Front
from eksml.serving.meters import NoMeters
from eksml.serving.spec import key_hash

KEY = "sk-secret"
COMPLETIONS = "/v1/completions"


class Models:
    """Two models' applications, at ``/one`` and ``/two``, as far as a gateway sees them."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], Any]] = []
        self.go_on = asyncio.Event()
        self.left = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append((request.path, body, request.headers))
        if not body.get("stream"):
            return web.json_response({"by": request.match_info["name"]}, headers={"X-Extra": "1"})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.left.set()
            raise
        if body["stream"] == "cut":
            assert request.transport is not None
            request.transport.abort()
        await response.write(b"data: 2\n\n")
        return response

    async def ready(self, _: web.Request) -> web.Response:
        return web.Response()


@contextlib.asynccontextmanager
async def gateway(meters: Any = None, **more: Any) -> AsyncIterator[tuple[Front, Models]]:
    models = Models()
    app = web.Application()
    app.router.add_post("/{name}/v1/completions", models.answer)
    app.router.add_get("/{name}/ready", models.ready)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    spec = ServeSpec(
        models=(
            ModelSpec(name="one", source="/m/one", adapters={"pirate": "/m/p"}),
            ModelSpec(name="two", source="/m/two"),
        ),
        **more,
    )
    made = Front(spec, f"http://127.0.0.1:{port}", meters or NoMeters())
    try:
        async with living(made):
            yield made, models
    finally:
        models.go_on.set()
        await runner.cleanup()


@contextlib.asynccontextmanager
async def living(made: Front) -> AsyncIterator[None]:
    """What a server does around its requests."""
    said: asyncio.Queue[Any] = asyncio.Queue()
    heard: asyncio.Queue[Any] = asyncio.Queue()
    life = asyncio.ensure_future(made({"type": "lifespan"}, said.get, heard.put))
    await said.put({"type": "lifespan.startup"})
    assert (await heard.get())["type"] == "lifespan.startup.complete"
    yield
    await said.put({"type": "lifespan.shutdown"})
    await life


class Client:
    """Sends one request to an ASGI application, and sees what comes back as it comes."""

    def __init__(self, app: Any, method: str, path: str, body: Any = None, key: str = "") -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.leave = asyncio.Event()
        self._body = [b"" if body is None else json.dumps(body).encode()]
        headers = [(b"content-type", b"application/json"), (b"x-mine", b"kept")]
        if key:
            headers.append((b"authorization", f"Bearer {key}".encode()))
        scope = {"type": "http", "method": method, "path": path, "headers": headers}
        self.task = asyncio.ensure_future(app(scope, self._receive, self.messages.put))

    async def _receive(self) -> dict[str, Any]:
        if self._body:
            return {"type": "http.request", "body": self._body.pop(), "more_body": False}
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def next(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.messages.get(), 10)

    async def all(self) -> tuple[int, Any]:
        await asyncio.wait_for(self.task, 10)
        start = await self.next()
        body = b""
        while not self.messages.empty():
            body += self.messages.get_nowait()["body"]
        return start["status"], json.loads(body)


def run(scene: Callable[[Front, Models], Awaitable[None]], **more: Any) -> None:
    async def play() -> None:
        async with gateway(**more) as (made, models):
            await scene(made, models)

    asyncio.run(play())


@pytest.mark.parametrize(
    ("model", "path"), [("one", "/one"), ("pirate", "/one"), ("two", "/two")], ids=str
)
def test_a_request_goes_to_the_model_that_it_names(model: str, path: str) -> None:
    async def scene(made: Front, models: Models) -> None:
        asked = {"model": model, "prompt": "x"}
        client = Client(made, "POST", "/v1/completions", asked, key="sk-any")
        assert await client.all() == (200, {"by": path[1:]})
        [(at, body, headers)] = models.asked
        assert (at, body) == (f"{path}/v1/completions", asked)
        assert (headers["x-mine"], headers["authorization"]) == ("kept", "Bearer sk-any")

    run(scene)


@pytest.mark.parametrize("model", ["three", None, 3, "../one"], ids=str)
def test_a_model_that_is_not_there_is_told_in_openais_shape(model: Any) -> None:
    async def scene(made: Front, models: Models) -> None:
        status, told = await Client(made, "POST", "/v1/completions", {"model": model}).all()
        assert (status, told["error"]["code"]) == (404, "model_not_found")
        assert not models.asked

    run(scene)


def test_a_stream_passes_chunk_by_chunk() -> None:
    async def scene(made: Front, models: Models) -> None:
        client = Client(made, "POST", "/v1/completions", {"model": "one", "stream": True})
        assert (await client.next())["status"] == 200
        assert (await client.next())["body"] == b"data: 1\n\n"
        models.go_on.set()
        assert (await client.next())["body"] == b"data: 2\n\n"
        assert not (await client.next()).get("more_body", False)

    run(scene)


def test_a_client_that_leaves_is_seen_by_the_model() -> None:
    async def scene(made: Front, models: Models) -> None:
        client = Client(made, "POST", "/v1/completions", {"model": "one", "stream": True})
        await client.next()
        client.leave.set()
        await asyncio.wait_for(models.left.wait(), 10)

    run(scene)


def test_a_stream_whose_model_dies_ends_with_an_error_event() -> None:
    async def scene(made: Front, models: Models) -> None:
        client = Client(made, "POST", "/v1/completions", {"model": "one", "stream": "cut"})
        await client.next()
        assert (await client.next())["body"] == b"data: 1\n\n"
        models.go_on.set()
        last = await client.next()
        told = json.loads(last["body"].removeprefix(b"data: "))
        assert told["error"]["code"] == "answer_cut_short"
        assert not last.get("more_body", False)

    run(scene)


def test_a_model_that_is_gone_is_told_so_that_the_client_tries_again() -> None:
    async def play() -> None:
        spec = ServeSpec(models=(ModelSpec(name="one", source="/m/one"),))
        made = Front(spec, "http://127.0.0.1:9", NoMeters())
        async with living(made):
            client = Client(made, "POST", "/v1/completions", {"model": "one"})
            status, told = await client.all()
        assert (status, told["error"]["code"]) == (503, "model_unavailable")

    asyncio.run(play())


def test_all_models_and_adapters_are_listed_to_those_with_a_key() -> None:
    tenant = TenantSpec(name="t", key_sha256=key_hash(KEY))

    async def scene(made: Front, _: Models) -> None:
        status, told = await Client(made, "GET", "/v1/models", key=KEY).all()
        assert status == 200
        assert [each["id"] for each in told["data"]] == ["one", "pirate", "two"]
        status, _refused = await Client(made, "GET", "/v1/models").all()
        assert status == 401

    run(scene, tenants=(tenant,))


def test_it_is_ready_when_all_models_are() -> None:
    async def scene(made: Front, _: Models) -> None:
        assert await Client(made, "GET", "/ready").all() == (200, {"status": "ok"})
        assert (await Client(made, "GET", "/pause").all())[0] == 404
        assert (await Client(made, "GET", "/v1/completions").all())[0] == 405

    run(scene)


class Told(NoMeters):
    """Meters that remember."""

    def __init__(self) -> None:
        self.ended: list[Access] = []
        self.refusals: list[Access] = []

    def request_ended(self, access: Access) -> None:
        self.ended.append(access)

    def refused(self, access: Access) -> None:
        self.refusals.append(access)


def http(made: Front, key: str = KEY) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {key}"}
    transport = httpx.ASGITransport(made)
    return httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers)


def test_files_and_batches_end_here_in_the_storage_of_their_tenant(tmp_path: Path) -> None:
    tenants = (TenantSpec(name="ann", key_sha256=key_hash(KEY)),)
    line = {"custom_id": "1", "method": "POST", "url": "/v1/completions"}
    text = json.dumps(line | {"body": {"model": "pirate", "prompt": "x"}})

    async def scene(made: Front, models: Models) -> None:
        async with http(made) as client:
            files = {"file": ("in.jsonl", text), "purpose": (None, "batch")}
            file = (await client.post("/v1/files", files=files)).json()
            asked = {"input_file_id": file["id"], "completion_window": "24h"}
            asked["endpoint"] = "/v1/completions"
            batch = (await client.post("/v1/batches", json=asked)).json()
            assert (batch["status"], batch["model"]) == ("validating", "pirate")
            assert (await client.get("/v1/batches")).json()["data"] == [batch]
        assert (tmp_path / "tenants/ann/batches" / batch["id"]).is_dir()
        marks = [json.loads(mark.read_text()) for mark in (tmp_path / "open").iterdir()]
        assert marks == [{"tenant": "ann", "model": "pirate"}]
        assert not models.asked

    run(scene, tenants=tenants, batches=str(tmp_path))


def test_there_are_no_files_where_there_is_no_folder_for_them() -> None:
    async def scene(made: Front, _: Models) -> None:
        async with http(made) as client:
            assert (await client.get("/v1/files")).status_code == 404

    run(scene)


def test_each_request_is_counted_where_it_ends() -> None:
    told = Told()
    tenants = (TenantSpec(name="ann", key_sha256=key_hash(KEY)),)

    async def scene(made: Front, models: Models) -> None:
        async with http(made) as client:
            asked = {"model": "one", "prompt": "x"}
            answer = await client.post(COMPLETIONS, json=asked, headers={"x-request-id": "mine"})
            assert answer.json() == {"by": "one"}
            await client.post(COMPLETIONS, json=asked | {"model": "three"})
            await client.get("/v1/models")
            await client.post(COMPLETIONS, json=asked, headers={"authorization": "Bearer x"})
        [(_, _, headers)] = models.asked
        assert headers["x-request-id"] == "mine"  # in the model's log, too

    run(scene, meters=told, tenants=tenants)
    assert [(each.route, each.tenant) for each in told.ended] == [("/v1/models", "ann")]
    assert [(each.error, each.tenant) for each in told.refusals] == [
        ("model_not_found", "ann"),
        ("invalid_api_key", ""),
    ]


def test_its_metrics_are_its_own() -> None:
    async def scene(made: Front, models: Models) -> None:
        async with http(made) as client:
            page = (await client.get("/metrics")).text
        assert "process_cpu_seconds_total" in page
        assert not models.asked

    run(scene)
