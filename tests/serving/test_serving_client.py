"""A served model through the official ``openai`` client, unchanged."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from openai import OpenAI

    from eksml.serving.endpoint import Endpoint

MESSAGES: Any = [{"role": "user", "content": "Who is there?"}]


@pytest.fixture(scope="module")
def client(endpoint: Endpoint) -> OpenAI:
    return endpoint.client(max_retries=0)


def test_the_model_and_its_adapters_are_listed(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny", "pirate"]


def test_a_chat_is_answered(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=8)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content


def test_a_stream_gives_the_same_text_in_many_pieces(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "max_tokens": 16}
    whole = client.chat.completions.create(**asked, temperature=0)
    pieces = [
        chunk.choices[0].delta.content or ""
        for chunk in client.chat.completions.create(**asked, temperature=0, stream=True)
    ]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len(pieces) > 8


def test_a_completion_continues_its_prompt_the_same_each_time(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": "Once upon", "temperature": 0}
    first, second = (client.completions.create(**asked, max_tokens=12) for _ in range(2))
    assert first.choices[0].text == second.choices[0].text != ""


def test_an_adapter_says_something_else_than_its_model(client: OpenAI) -> None:
    said = [
        client.completions.create(model=name, prompt="Ahoy", max_tokens=16, temperature=0)
        for name in ("tiny", "pirate")
    ]
    assert said[0].choices[0].text != said[1].choices[0].text


def test_structured_output_holds_to_its_schema(client: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"sure": {"type": "boolean"}, "color": {"enum": ["red", "green"]}},
        "required": ["sure", "color"],
        "additionalProperties": False,
    }
    form: Any = {"type": "json_schema", "json_schema": {"name": "view", "schema": schema}}
    answer = client.chat.completions.create(
        model="tiny", messages=MESSAGES, max_tokens=200, response_format=form
    )
    said = json.loads(answer.choices[0].message.content or "")
    assert isinstance(said["sure"], bool)
    assert said["color"] in ("red", "green")


def test_a_tool_that_must_be_called_is_called_with_its_arguments(client: OpenAI) -> None:
    form = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    weather = {"name": "weather", "parameters": form, "strict": True}
    tool: Any = {"type": "function", "function": weather}
    choice: Any = {"type": "function", "function": {"name": "weather"}}
    answer = client.chat.completions.create(
        model="tiny", messages=MESSAGES, tools=[tool], tool_choice=choice, max_tokens=200
    )
    [call] = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"model": "huge"}, 404),
        ({"max_tokens": -1}, 400),
        ({"max_tokens": 10_000}, 400),
        ({"prompt": "word " * 2_000}, 400),
        ({"temperature": "hot"}, 400),
        ({"n": 1_000_000}, 400),
    ],
    ids=["model", "negative", "too many", "too long", "type", "n"],
)
def test_what_is_wrong_is_told_in_openais_shape(
    client: OpenAI, change: dict[str, Any], status: int
) -> None:
    import openai

    asked: dict[str, Any] = {"model": "tiny", "prompt": "x", "max_tokens": 4, **change}
    with pytest.raises(openai.APIStatusError) as refused:
        client.completions.create(**asked)
    assert refused.value.status_code == status
    assert isinstance(refused.value.body, dict)
    assert {"message", "type", "param", "code"} <= refused.value.body.keys()


def test_a_client_that_leaves_frees_the_engine(client: OpenAI, endpoint: Endpoint) -> None:
    stream = client.completions.create(
        model="tiny",
        prompt="on and on",
        max_tokens=450,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    next(iter(stream))
    assert running(endpoint) == 1
    stream.close()
    deadline_s = time.monotonic() + 10
    while running(endpoint) > 0:
        assert time.monotonic() < deadline_s, "the engine goes on"
        time.sleep(0.05)


def running(endpoint: Endpoint) -> float:
    """Requests in the engine, as vLLM's own metrics tell."""
    with urllib.request.urlopen(endpoint.url.removesuffix("v1") + "metrics") as page:
        lines = page.read().decode().splitlines()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith(("vllm:num_requests_running", "vllm:num_requests_waiting{"))
    )
