"""The API, the gate and the worker around vLLM itself, as in a replica."""

from __future__ import annotations

import runpy
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from jobs_client import ended, jsonl, lines
from tiny_llm import tiny_llm

from eksml.testing.ports import free_ports

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "serve_classes.py"
NAME = runpy.run_path(str(BENCHMARK))["NAME"]
FAR = "http://169.254.169.254/latest"

pytestmark = [pytest.mark.long, pytest.mark.timeout(420)]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    folder = tmp_path_factory.mktemp("engine")
    model = tiny_llm(folder / "model", context=512)
    [port] = free_ports(1)
    command = [sys.executable, BENCHMARK, "--serve", model, folder / "jobs", str(port)]
    server = subprocess.Popen(command)
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x", timeout=60)
    try:
        deadline = time.monotonic() + 360
        while not _is_ready(port):
            assert time.monotonic() < deadline
            assert server.poll() is None
            time.sleep(0.2)
        yield client
    finally:
        server.terminate()
        server.wait(30)


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200
    except httpx.TransportError:
        return False


def row(custom_id: str, **body: Any) -> dict[str, Any]:
    plain = {"model": NAME, "temperature": 0, "max_tokens": 8, "ignore_eos": True}
    line = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions"}
    return {**line, "body": {**plain, **body}}


def say(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def make(client: openai.OpenAI, rows: list[dict[str, Any]]) -> Any:
    file = client.files.create(file=("in.jsonl", jsonl(rows)), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )


def test_a_batch_says_what_online_requests_say(client: openai.OpenAI) -> None:
    texts = [f"tell me of {n}" for n in range(100)]
    batch = ended(client, make(client, [row(f"{n}", **say(t)) for n, t in enumerate(texts)]))
    assert batch.request_counts.to_dict() == {"total": 100, "completed": 100, "failed": 0}
    assert batch.usage.output_tokens == 800
    found = lines(client, batch.output_file_id)
    assert [answer["custom_id"] for answer in found] == [f"{n}" for n in range(100)]
    bodies = [answer["response"]["body"] for answer in found]
    assert {body["usage"]["completion_tokens"] for body in bodies} == {8}
    online = client.chat.completions.create(
        model=NAME, temperature=0, max_tokens=8, extra_body={"ignore_eos": True}, **say(texts[0])
    )
    assert bodies[0]["choices"][0]["message"]["content"] == online.choices[0].message.content


def test_rows_meet_the_checks_of_online_requests(client: openai.OpenAI) -> None:
    image = {"type": "image_url", "image_url": {"url": FAR}}
    wrong = [
        row("n", **say("x"), n=10**6),
        row("negative", **say("x"), max_tokens=-1),
        row("media", messages=[{"role": "user", "content": [image]}]),
        row("long", **say("x " * 5000)),
        row("nul", **say("a\0b")),
        row("messages", messages=3),
        row("good", **say("x")),
    ]
    batch = ended(client, make(client, wrong))
    assert batch.status == "completed"
    assert [answer["custom_id"] for answer in lines(client, batch.output_file_id)] == ["good"]
    found = lines(client, batch.error_file_id)
    assert {answer["response"]["status_code"] for answer in found} == {400}
    assert [answer["custom_id"] for answer in found] == [line["custom_id"] for line in wrong[:-1]]


def test_a_cancelled_batch_leaves_nothing_in_the_engine(client: openai.OpenAI) -> None:
    batch = make(client, [row(f"{n}", **say("go on"), max_tokens=400) for n in range(200)])
    while not (batch := client.batches.retrieve(batch.id)).usage.output_tokens:
        assert batch.status in ("validating", "in_progress"), batch
        time.sleep(0.05)
    client.batches.cancel(batch.id)
    batch = ended(client, batch)
    assert batch.status == "cancelled"
    assert 0 < batch.request_counts.completed < 200
    deadline = time.monotonic() + 10
    while _running(client):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_online_requests_are_answered_while_a_batch_fills_the_engine(
    client: openai.OpenAI,
) -> None:
    batch = make(client, [row(f"{n}", **say("go on"), max_tokens=400) for n in range(500)])
    while not (batch := client.batches.retrieve(batch.id)).usage.output_tokens:
        assert batch.status in ("validating", "in_progress"), batch
        time.sleep(0.05)
    for n in range(20):
        answer = client.chat.completions.create(model=NAME, max_tokens=4, **say(f"hello {n}"))
        assert answer.choices[0].finish_reason
    assert client.batches.retrieve(batch.id).status == "in_progress"
    client.batches.cancel(batch.id)
    assert ended(client, batch).status == "cancelled"


def _running(client: openai.OpenAI) -> float:
    """Sequences in the engine, as vLLM itself counts them."""
    text = httpx.get(str(client.base_url).replace("/v1/", "/metrics")).text
    found = [
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith(("vllm:num_requests_running{", "vllm:num_requests_waiting{"))
    ]
    assert found
    return sum(found)
