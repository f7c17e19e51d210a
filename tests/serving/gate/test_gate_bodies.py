"""Bodies that must not reach the engine, and those that must."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from gate_below import CHAT, Below, app_spec, client_of, code_of, gate_of
from hypothesis import given, settings
from hypothesis import strategies as st

from eksml.serving.gate.media import engine_arguments, url_fault
from eksml.serving.gate.patterns import pattern_fault
from eksml.serving.spec import LimitsSpec, ModelSpec

HOSTS = ("images.example.com",)
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 1000}}}


def post(body: Any, path: str = "/v1/chat/completions", **spec: Any) -> httpx.Response:
    """What the gate answers; if it refuses, nothing may have come to the application below."""
    below = Below()

    async def ask() -> httpx.Response:
        async with client_of(gate_of(below, app_spec(**spec))) as client:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            return await client.post(path, content=content)

    answer = asyncio.run(ask())
    if answer.status_code != 200:
        assert below.bodies == []
    return answer


def chat(**fields: Any) -> dict[str, Any]:
    return {**CHAT, **fields}


def form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


def image(url: Any) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": {"url": url}}
    return chat(messages=[{"role": "user", "content": [{"type": "text", "text": "?"}, part]}])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"[" * 10_000 + b"]" * 10_000,
        b'{"model":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"model": "tiny", "messages": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"temperature": NaN}',
        b'{"n": Infinity}',
        b'{"n": ' + b"9" * 100_000 + b"}",
        b'{"model": "tiny\xff"}',
        b'{"model": "\\ud800"}',
        '{"model": "tiny"}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
    ],
    ids=range(15),
)
def test_what_is_no_sound_json_is_refused(body: bytes) -> None:
    answer = post(body)
    assert answer.status_code == 400
    assert code_of(answer) == "invalid_json"


@given(st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_no_bytes_make_the_gate_fail(body: bytes) -> None:
    assert post(body).status_code == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ("model", "messages", "prompt", "input", "n", "max_tokens", "stream", "tools", "priority")
MORE = ("response_format", "structured_outputs", "guided_regex", "min_tokens", "chat_template")


@given(
    st.sampled_from(["/v1/chat/completions", "/v1/completions"]),
    st.dictionaries(st.sampled_from([*FIELDS, *MORE]), JSON),
)
@settings(max_examples=80, deadline=None)
def test_no_values_make_the_gate_fail(path: str, body: dict[str, Any]) -> None:
    assert post(body, path).status_code in (200, 400, 404)


def test_a_nul_in_a_text_is_refused_and_the_text_that_shows_one_is_not() -> None:
    nul = chat(messages=[{"role": "user", "content": "a\0b"}])
    assert code_of(post(nul)) == "invalid_value"
    assert code_of(post(chat(**{"a\0": 1}))) == "invalid_value"
    assert post(chat(messages=[{"role": "user", "content": "a\\u0000b"}])).status_code == 200


def test_a_body_over_the_limit_is_refused_before_it_is_read() -> None:
    read = 0

    async def ask(declared: bool) -> int:
        async def chunks() -> Any:
            nonlocal read
            for _ in range(1000):
                read += 1
                yield b"x" * 1000

        spec = app_spec(limits=LimitsSpec(body_bytes=10_000))
        headers = {"content-length": "1000000"} if declared else {}
        async with client_of(gate_of(Below(), spec)) as client:
            answer = await client.post("/v1/completions", content=chunks(), headers=headers)
        assert code_of(answer) == "body_too_long"
        return answer.status_code

    assert asyncio.run(ask(declared=True)) == 413
    assert read == 0
    assert asyncio.run(ask(declared=False)) == 413
    assert read == 11


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": 65}, "n"),
        ({"n": 10**6}, "n"),
        ({"n": -1}, "n"),
        ({"n": 1.5}, "n"),
        ({"n": "2"}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -5}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"max_tokens": 10**9}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"model": 7}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [1]}, "messages.0"),
        ({"messages": [{"role": 1, "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [1]}]}, "messages.0.content.0"),
        ({"priority": -1}, "priority"),
        ({"kv_transfer_params": {"remote_host": "10.0.0.1"}}, "kv_transfer_params"),
        ({"chat_template": "{{ x }}"}, "chat_template"),
        ({"guided_regex": "a"}, "guided_regex"),
        ({"tools": {}}, "tools"),
        ({"response_format": "json"}, "response_format"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    answer = post(chat(**fields))
    assert answer.status_code == 400
    assert code_of(answer) == "invalid_value"
    assert answer.json()["error"]["param"] == param


def test_all_problems_are_told_in_one_message() -> None:
    answer = post(chat(n=0, max_tokens=-1, stream="no"))
    message = answer.json()["error"]["message"]
    assert all(field in message for field in ("n: 0", "max_tokens: -1", "stream: 'no'"))


def test_a_body_of_very_many_pieces_is_refused() -> None:
    lists = b'{"prompt":[' + b"[1]," * 200_000 + b"[1]]}"
    numbers = b'{"prompt":[' + b"1," * 1_500_000 + b"1]}"
    for body in (lists, numbers):
        assert "Send less at once" in post(body, "/v1/completions").text
    many = [{"role": "user", "content": "a"}] * 10_000
    assert "over 8,192 messages and parts" in post(chat(messages=many)).text
    parts = [{"role": "user", "content": ["a"] * 5_000}] * 2
    assert "over 8,192 messages and parts" in post(chat(messages=parts)).text


def test_of_very_many_problems_some_are_told() -> None:
    message = post(chat(messages=[{}] * 5_000)).json()["error"]["message"]
    assert message.endswith("There are more.")
    assert len(message) < 2_000


def test_an_unknown_model_is_not_found_and_the_known_ones_are_told() -> None:
    model = ModelSpec(name="tiny", source="/m", adapters={"a--b": "/adapters/a"})
    answer = post(chat(model="huge"), model=model)
    assert answer.status_code == 404
    assert code_of(answer) == "model_not_found"
    assert "tiny, a--b" in answer.json()["error"]["message"]
    assert post(chat(model="a--b"), model=model).status_code == 200
    assert post({"messages": CHAT["messages"]}, model=model).status_code == 200


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "/etc/passwd", "a/b", "a" * 4096, "a..b", "", "."]
)
def test_names_of_adapters_are_no_paths(name: str) -> None:
    model = ModelSpec(name="tiny", source="/m", adapters={"a--b": "/adapters/a"})
    answer = post(chat(model=name), model=model)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "model"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/completions", {"prompt": "Hello"}, 200),
        ("/v1/completions", {"prompt": ["Hello", "you"]}, 200),
        ("/v1/completions", {"prompt": [1, 2, 3]}, 200),
        ("/v1/completions", {"prompt": [[1, 2], [3]]}, 200),
        ("/v1/completions", {"prompt": [1, "a"]}, 400),
        ("/v1/completions", {"prompt": [[1], ["a"]]}, 400),
        ("/v1/completions", {"prompt": [-1]}, 400),
        ("/v1/completions", {"prompt": {"text": "a"}}, 400),
        ("/v1/completions", {"prompt": []}, 400),
        ("/v1/completions", {}, 400),
        ("/v1/completions", {"prompt": ["a"] * 2049}, 400),
        ("/v1/completions", {"prompt": ["a"] * 64, "n": 64}, 400),
    ],
)
def test_prompts_come_in_openais_forms(path: str, body: dict[str, Any], status: int) -> None:
    assert post(body, path).status_code == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"input": "Hello"}, 200),
        ({"input": ["Hello", "you"]}, 200),
        ({"input": [[1], [2, 3]]}, 200),
        ({"messages": [{"role": "user", "content": "Hello"}]}, 200),
        ({"input": [{"role": "user", "content": "Hello"}]}, 200),
        ({"input": [[{"role": "user", "content": "Hello"}]]}, 200),
        ({"input": [[{"role": "user", "content": [{"image_url": "http://10.0.0.1/"}]}]]}, 400),
        ({}, 400),
    ],
)
def test_inputs_to_embed_come_in_vllms_forms(body: dict[str, Any], status: int) -> None:
    model = ModelSpec(name="tiny", source="/m", task="embed")
    assert post(body, "/v1/embeddings", model=model).status_code == status


def test_a_prompt_that_cannot_fit_is_refused_without_counting_its_tokens() -> None:
    long = "x" * 2_000_000
    answer = post({"prompt": long}, "/v1/completions")
    assert code_of(answer) == "context_length_exceeded"
    assert code_of(post({"prompt": [1] * 2049}, "/v1/completions")) == "context_length_exceeded"
    assert post(chat(messages=[{"role": "user", "content": long}])).status_code == 400
    cut = {"prompt": long, "truncate_prompt_tokens": 100}
    assert post(cut, "/v1/completions").status_code == 200


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/latest/",
        "http://0xa9fea9fe/",
        "http://0251.0376.0251.0376/",
        "http://127.1/",
        "http://localhost/cat.png",
        "http://[::1]/cat.png",
        "http://[::ffff:169.254.169.254]/",
        "http://images.example.com@169.254.169.254/",
        "http://169.254.169.254\\@images.example.com/",
        "http://images.example.com\\@169.254.169.254/",
        "http://images.example.com:80@169.254.169.254/",
        "http://images.example.com#@169.254.169.254/",
        "http://images.example.com?@169.254.169.254/",
        "http://images.example.com:8080/",
        "http://images.example.com./cat.png",
        "http://images.example.com.evil.com/cat.png",
        "http://evil-images.example.com/",
        "http:/images.example.com/cat.png",
        "http:///images.example.com/cat.png",
        "//images.example.com/cat.png",
        " http://images.example.com/cat.png",
        "http://images.example.com/cat.png\n",
        "http://images.example.com\t.evil.com/",
        "http://ımages.example.com/",
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "ftp://images.example.com/cat.png",
        "gopher://images.example.com/",
        "cat.png",
        "",
        7,
        ["http://images.example.com/cat.png"],
    ],
)
def test_nothing_is_fetched_from_anywhere_but_the_named_hosts(url: Any) -> None:
    answer = post(image(url), limits=LimitsSpec(media=HOSTS))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages.0.content.1.image_url.url"


def test_images_come_inside_the_request_or_from_named_hosts() -> None:
    limits = LimitsSpec(media=HOSTS)
    for url in ("https://images.example.com/a@b/cat.png?x=1", "HTTP://Images.Example.com"):
        assert post(image(url), limits=limits).status_code == 200
        assert post(image(url)).status_code == 400
    assert post(image("data:image/png;base64,AAAA")).status_code == 200


@pytest.mark.parametrize(
    "part",
    [
        {"image_url": "http://10.0.0.1/"},
        {"type": "image_url", "image_url": "http://10.0.0.1/"},
        {"type": "input_image", "image_url": "http://10.0.0.1/"},
        {"type": "text", "text": "x", "uuid": "u", "image_url": {"url": "http://10.0.0.1/"}},
        {"type": "audio_url", "audio_url": {"url": "http://10.0.0.1/"}},
        {"type": "video_url", "video_url": {"url": "http://10.0.0.1/"}},
        {"video_url": "http://10.0.0.1/"},
        {"type": "image_embeds", "image_embeds": "AAAA"},
        {"prompt_embeds": None, "data": "AAAA"},
        {"type": "prompt_embeds", "data": "AAAA"},
        {"type": "image_pil", "image_pil": {}},
    ],
)
def test_every_form_of_media_in_a_message_is_looked_at(part: dict[str, Any]) -> None:
    body = chat(messages=[{"role": "user", "content": [part]}])
    assert post(body, limits=LimitsSpec(media=HOSTS)).status_code == 400


@given(st.from_regex(r"https?://[ -~]{0,40}", fullmatch=True))
@settings(max_examples=300)
def test_a_url_that_passes_has_a_named_host_to_every_parser(url: str) -> None:
    from urllib.parse import urlsplit

    from urllib3.util import parse_url
    from yarl import URL

    if not url_fault(url, ("a", "images.example.com")):
        hosts = {urlsplit(url).hostname, parse_url(url).host, URL(url).host}
        assert len(hosts) == 1
        assert hosts <= {"a", "images.example.com"}


def test_an_engine_without_named_hosts_is_told_one_that_nobody_has() -> None:
    assert engine_arguments(HOSTS) == {"allowed_media_domains": list(HOSTS)}
    assert engine_arguments(()) == {"allowed_media_domains": ["no-media.invalid"]}


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a*)*b",
        "((a+))+",
        "([a-z]+)*",
        "(a{1,99}){1,99}",
        "(((a{100}){100}){100}){100}",
        "a{1000000000}",
        "a{99999999999999999999999}",
        "[a-z]?" * 64,
        "[a-z]*" * 200,
        "([a-z]*){1,64}",
        "a?" * 500 + "a" * 500,
        "(" * 20_000 + "a" + ")" * 20_000,
        "(" * 100 + "a" + ")" * 100,
        "x" * 2000,
    ],
)
def test_bombs_of_regular_expressions_are_refused(pattern: str) -> None:
    for fields in (
        {"structured_outputs": {"regex": pattern}},
        {"structured_outputs": {"json": {"type": "string", "pattern": pattern}}},
        {"structured_outputs": {"json": json.dumps({"type": "string", "pattern": pattern})}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"schema": {"pattern": pattern}},
            }
        },
        {"tools": [{"type": "function", "function": {"parameters": {"pattern": pattern}}}]},
    ):
        assert post(chat(**fields)).status_code == 400


@pytest.mark.parametrize(
    "pattern",
    [
        r"\w{1,200}@\w{1,200}\.[a-z]{2,6}",
        r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        r"((25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(25[0-5]|2[0-4]\d|1?\d?\d)",
        r"(\w+\s?)+",
        r"(?P<year>\d{4})-(?:0[1-9]|1[0-2])",
        r"[]a]+[^]]*\]\{2,\}\p{L}*",
        "yes|no",
        ".{1,500}?",
        "",
        "(unclosed",
        "*",
        "a{,5}",
        "{1000000}",
    ],
)
def test_useful_regular_expressions_pass(pattern: str) -> None:
    assert pattern_fault(pattern) == ""


@given(st.text(alphabet="ab()[]{}*+?|\\,019^:=<P>.-", max_size=200))
@settings(max_examples=300)
def test_no_text_makes_the_measure_of_patterns_fail(pattern: str) -> None:
    assert isinstance(pattern_fault(pattern), str)


@pytest.mark.parametrize(
    "wanted",
    [
        {"json": {"properties": {f"p{at}": {} for at in range(1000)}}},
        {"json": {"enum": ["x" * 100] * 1000}},
        {"json": '{"enum": ["' + "x" * 70_000 + '"]}'},
        {"json": "{"},
        {"json": json.loads('{"items":' * 100 + "1" + "}" * 100)},
        {"json": {"patternProperties": {"(a+)+": {}}}},
        {"choice": ["x" * 10] * 10_000},
        {"grammar": "root ::= " + "[a-z]? " * 200},
        {"grammar": "root ::= [a-z]{1,100000}"},
        {"grammar": "x" * 70_000},
        {"structural_tag": "{"},
        {"whitespace_pattern": "( +)+", "json": {}},
        {"regex": 7},
        [],
    ],
    ids=range(14),
)
def test_oversized_structured_outputs_are_refused(wanted: Any) -> None:
    answer = post(chat(structured_outputs=wanted))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("structured_outputs")


@pytest.mark.parametrize(
    "fields",
    [
        {"structured_outputs": {"json": SCHEMA}},
        {"structured_outputs": {"choice": ["yes", "no"]}},
        {"structured_outputs": {"grammar": 'root ::= "a" [0-9]{1,3} ("," [0-9]+)*'}},
        {"structured_outputs": {"json": {"properties": {"pattern": {"type": "string"}}}}},
        {"response_format": {"type": "json_object"}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": SCHEMA},
            }
        },
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]},
        {"n": 64, "max_tokens": 2048, "stream": True, "priority": 3, "temperature": 0.0},
    ],
)
def test_what_users_ask_of_answers_passes(fields: dict[str, Any]) -> None:
    assert post(chat(**fields)).status_code == 200


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e9", "soon", "1_0", "1" * 30])
def test_a_wrong_deadline_is_refused(text: str) -> None:
    async def ask() -> httpx.Response:
        async with client_of(gate_of(Below())) as client:
            headers = {"x-request-timeout-s": text}
            return await client.post("/v1/chat/completions", json=CHAT, headers=headers)

    answer = asyncio.run(ask())
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "x-request-timeout-s"


def test_the_application_below_gets_the_bytes_that_were_sent() -> None:
    below = Below()
    body = b'{ "messages": [{"role": "user", "content": "\xc3\xa4"}], "n": 1.0, "n": 1 }'

    async def ask() -> int:
        async with client_of(gate_of(below)) as client:
            return (await client.post("/v1/chat/completions", content=body)).status_code

    assert asyncio.run(ask()) == 200
    assert below.bodies == [body]
