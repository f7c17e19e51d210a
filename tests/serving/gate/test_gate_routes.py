"""Every route of a replica and of the gateway, and all that vLLM has beside: who needs a key."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from gate_below import CHAT, Below, app_spec, client_of, code_of, gate_of

from eksml.serving.gate.routes import Routes, routes_of_gateway, routes_of_model
from eksml.serving.gateway import Front
from eksml.serving.meters import NoMeters
from eksml.serving.spec import ModelSpec, ServeSpec, TenantSpec, key_hash

KEY = "sk-" + "k" * 43
ACME = TenantSpec(name="acme", key_sha256=key_hash(KEY))
PUBLIC = {"/", "/health", "/ready", "/metrics"}
"""Probes and Prometheus have no key, and are told no content; the page asks for one itself."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
WRONG = (None, "", "sk-wrong", KEY[:-1], key_hash(KEY))


@pytest.fixture(params=["a model that writes", "a model that embeds", "the gateway"])
def door(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Routes, Below]:
    """What is asked, its allowlist, and what stands behind it."""
    below, terms = Below(), {"tenants": (ACME,), "batches": str(tmp_path)}
    if request.param == "the gateway":
        models = [ModelSpec(name=name, source="/m", replicas=(0, 1)) for name in ("a", "b")]
        spec = ServeSpec(models=models, **terms)
        return Front(spec, "http://127.0.0.1:9", NoMeters()), routes_of_gateway(spec), below
    task = "embed" if "embeds" in request.param else "generate"
    app = app_spec(model=ModelSpec(name="tiny", source="/m", task=task), **terms)
    return gate_of(below, app), routes_of_model(app), below


def ask(app: Any, method: str, path: str, key: str | None) -> httpx.Response:
    async def asked() -> httpx.Response:
        async with client_of(app, key) as client:
            body = CHAT if method == "POST" else None
            return await client.request(method, path.format(id="file-0"), json=body)

    return asyncio.run(asked())


def test_every_route_but_the_public_ones_wants_a_right_key(
    door: tuple[Any, Routes, Below],
) -> None:
    app, routes, below = door
    for route in routes.all:
        for method in route.methods:
            for key in () if route.path in PUBLIC else WRONG:
                answer = ask(app, method, route.path, key)
                assert (answer.status_code, code_of(answer)) == (401, "invalid_api_key")
            assert not below.scopes
            assert ask(app, method, route.path, KEY).status_code != 401
            below.scopes.clear()


def test_the_public_routes_are_these_and_no_others(door: tuple[Any, Routes, Below]) -> None:
    app, routes, _ = door
    open_ones = {
        route.path for route in routes.all if ask(app, "GET", route.path, None).status_code == 200
    }
    assert open_ones == PUBLIC


def test_nothing_else_that_vllm_would_answer_is_reached(
    door: tuple[Any, Routes, Below], tiny: Path
) -> None:
    app, routes, below = door
    allowed = {(method, route.path) for route in routes.all for method in route.methods}
    others = {(method, path) for path in vllms_paths(tiny) for method in METHODS} - allowed
    assert len(others) > 100
    for method, path in sorted(others):
        for key in (None, KEY):
            assert ask(app, method, path, key).status_code in (404, 405), (method, path)
    assert not below.scopes


def vllms_paths(model: Path) -> set[str]:
    """As its own application has them, were it served without a gate."""
    pytest.importorskip("vllm")
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.app import build_app

    from eksml.serving.engine import _server_arguments

    given = AsyncEngineArgs(model=str(model), served_model_name=["tiny"])
    arguments = _server_arguments(given, {}, {})
    paths: set[str] = set()
    for task in ("generate", "embed"):
        routes = build_app(arguments, (task,), given.create_model_config()).routes  # type: ignore[arg-type]
        paths |= {str(getattr(route, "path", "")) for route in routes}
    return {path.replace("{", "x").replace("}", "x") for path in paths if path.startswith("/")}
