"""Which requests pass the gate at all: routes and keys."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from gate_below import CHAT, Below, Engine, app_spec, client_of, code_of, gate_of

from eksml.errors import InvalidSpec
from eksml.serving.spec import ModelSpec, TenantSpec, key_hash

KEY = "sk-" + "k" * 43
OTHER = "sk-" + "o" * 43
ACME = TenantSpec(name="acme", key_sha256=key_hash(KEY))


async def asked(gate: Any, method: str, path: str, key: str | None = None) -> httpx.Response:
    async with client_of(gate, key) as client:
        body = CHAT if method == "POST" else None
        return await client.request(method, path, json=body)


def status_of(gate: Any, method: str, path: str, key: str | None = None) -> int:
    return asyncio.run(asked(gate, method, path, key)).status_code


@pytest.mark.parametrize(
    "path",
    [
        *("/pause", "/invocations", "/update_weights", "/score", "/v1/load_lora_adapter"),
        *(
            "/tokenize",
            "/docs",
            "/openapi.json",
            "/v1/responses",
            "/server_info",
            "/reset_mm_cache",
        ),
        *("/v1/models/", "//v1/models", "/v1/../pause", "/V1/models", "/v1/chat/completions/x"),
        *("/v1/chat/completions%00", "/v1/chat%2fcompletions%2f", "/metrics/", "/healthz"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_only_what_is_on_the_list_of_routes_passes(method: str, path: str) -> None:
    below = Below()
    answer = asyncio.run(asked(gate_of(below), method, path))
    assert answer.status_code == 404
    assert code_of(answer) == "unknown_url"
    assert below.scopes == []


def test_a_wrong_method_is_told_the_right_one() -> None:
    answer = asyncio.run(asked(gate_of(Below()), "DELETE", "/v1/chat/completions"))
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert code_of(answer) == "method_not_allowed"


def test_a_model_has_the_routes_of_its_task() -> None:
    embeds = app_spec(model=ModelSpec(name="tiny", source="/m", task="embed"))
    answer = asyncio.run(asked(gate_of(Below(), embeds), "POST", "/v1/chat/completions"))
    assert answer.status_code == 404
    assert "task is 'embed'" in answer.json()["error"]["message"]
    assert status_of(gate_of(Below()), "POST", "/v1/embeddings") == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/files"),
        ("GET", "/v1/files/file-1"),
        ("GET", "/v1/files/file-1/content"),
        ("POST", "/v1/batches"),
        ("POST", "/v1/batches/b-1/cancel"),
    ],
)
def test_files_and_batches_are_there_where_they_are_turned_on(method: str, path: str) -> None:
    assert status_of(gate_of(Below(), app_spec(batches="/data/batches")), method, path) == 200
    assert status_of(gate_of(Below()), method, path) == 404


@pytest.mark.parametrize("name", ["..", "%2e%2e", ".hidden", "a%00b", "a/b", "x" * 200, "a%2fb"])
def test_names_of_files_are_no_paths(name: str) -> None:
    below = Below()
    gate = gate_of(below, app_spec(batches="/data/batches"))
    assert status_of(gate, "DELETE", f"/v1/files/{name}") in (404, 405)
    assert below.scopes == []


def test_a_route_is_found_below_the_place_where_serve_mounts_it() -> None:
    below = Below()

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await gate_of(below)({**scope, "root_path": "/llm"}, receive, send)

    async def ask(path: str) -> int:
        async with client_of(mounted) as client:  # type: ignore[arg-type]
            return (await client.get(path)).status_code

    assert asyncio.run(ask("/llm/v1/models")) == 200
    assert asyncio.run(ask("/llm/pause")) == 404


def test_health_and_readiness_are_the_engines() -> None:
    for engine, health, ready in [
        (Engine(), 200, 200),
        (Engine(ready=False), 200, 503),
        (Engine(ready=False, alive=False), 503, 503),
    ]:
        gate = gate_of(Below(), app_spec(tenants=(ACME,)), engine=engine)
        assert status_of(gate, "GET", "/health") == health
        assert status_of(gate, "GET", "/ready") == ready


@pytest.mark.parametrize("key", [None, "", "sk-wrong", KEY[:-1], KEY + "x", key_hash(KEY), "ü"])
@pytest.mark.parametrize("path", ["/v1/models", "/v1/files"])
def test_without_a_right_key_nothing_but_probes_passes(path: str, key: str | None) -> None:
    below = Below()
    gate = gate_of(below, app_spec(tenants=(ACME,), batches="/data/batches"))

    async def ask() -> httpx.Response:
        headers = {} if key is None else {b"authorization": f"Bearer {key}".encode("latin-1")}
        async with client_of(gate) as client:
            return await client.get(path, headers=headers)  # type: ignore[arg-type]

    answer = asyncio.run(ask())
    assert answer.status_code == 401
    assert code_of(answer) == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert below.scopes == []


def test_the_application_below_is_told_whose_request_it_is() -> None:
    below = Below()
    assert status_of(gate_of(below, app_spec(tenants=(ACME,))), "GET", "/v1/models", KEY) == 200
    assert below.scopes[0]["state"]["tenant"] == "acme"


def test_no_key_is_ever_logged_or_answered(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    gate = gate_of(Below(fails_at=0, chunks=[]), app_spec(tenants=(ACME,)))
    answers = [
        asyncio.run(asked(gate, "POST", "/v1/chat/completions", KEY)),
        asyncio.run(asked(gate, "GET", "/v1/models", OTHER)),
    ]
    told = caplog.text + "".join(answer.text + str(answer.headers) for answer in answers)
    assert "the application broke" in caplog.text
    assert KEY not in told
    assert OTHER not in told


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def write(path: Path, *keys: str) -> None:
    tenants = [{"name": f"t{at}", "key_sha256": key_hash(key)} for at, key in enumerate(keys)]
    path.write_text(json.dumps(tenants))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))


def test_a_changed_file_of_tenants_is_read_again(tmp_path: Path) -> None:
    file, clock = tmp_path / "tenants.json", Clock()
    write(file, KEY)
    gate = gate_of(Below(), app_spec(tenants_file=str(file)), clock=clock)
    assert status_of(gate, "GET", "/v1/models", KEY) == 200
    write(file, OTHER)
    clock.now_s += 2
    assert status_of(gate, "GET", "/v1/models", OTHER) == 200
    assert status_of(gate, "GET", "/v1/models", KEY) == 401


@pytest.mark.parametrize(
    "damage",
    ["[", "{}", '[{"name": "a"}]', f'["{OTHER}"]', f'[{{"name": "{OTHER}!", "key": "{OTHER}"}}]'],
)
def test_a_damaged_file_of_tenants_keeps_those_that_were_read(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    file, clock = tmp_path / "tenants.json", Clock()
    write(file, KEY)
    gate = gate_of(Below(), app_spec(tenants_file=str(file)), clock=clock)
    file.write_text(damage)
    clock.now_s += 2
    assert status_of(gate, "GET", "/v1/models", KEY) == 200
    assert "The tenants stay as they were" in caplog.text
    assert OTHER not in caplog.text
    with pytest.raises(InvalidSpec):
        gate_of(Below(), app_spec(tenants_file=str(file)))


def test_a_file_without_tenants_lets_nobody_in(tmp_path: Path) -> None:
    file = tmp_path / "tenants.json"
    file.write_text("[]")
    assert status_of(gate_of(Below(), app_spec(tenants_file=str(file))), "GET", "/v1/models") == 401


def test_a_missing_file_of_tenants_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="No such file"):
        gate_of(Below(), app_spec(tenants_file=str(tmp_path / "none.json")))


def test_a_web_socket_is_closed_unopened() -> None:
    below, sent = Below(), []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    scope = {"type": "websocket", "path": "/v1/realtime", "headers": []}
    asyncio.run(gate_of(below)(scope, receive, send))
    assert sent == ["websocket.close"]
    assert below.scopes == []
