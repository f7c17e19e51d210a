"""The page on which a person tries a model, with a stub of the API; in a browser where one is."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from browser import Browser, installed
from streaming_server import MARKUP, StreamingServer

from eksml.serving.playground import playground, policy

KEY = "sk-secret"


def page(method: str = "GET") -> tuple[dict[str, str], bytes]:
    """The headers and the body that the application sends."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    asyncio.run(playground({"type": "http", "method": method, "path": "/"}, receive, send))
    assert sent[0]["status"] == 200
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return headers, sent[1]["body"]


def test_the_page_needs_nothing_from_elsewhere() -> None:
    headers, body = page()
    text = body.decode()
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert int(headers["content-length"]) == len(body)
    assert not re.search(r"https?://|//cdn|@import|url\(", text)
    assert set(re.findall(r"\b(?:src|href)=\"([^\"]*)", text)) == {"data:,"}


def test_a_browser_is_told_to_run_only_the_pages_own_script() -> None:
    headers, body = page()
    told = headers["content-security-policy"]
    assert told == policy(body.decode())
    assert "default-src 'none'" in told
    assert "frame-ancestors 'none'" in told
    assert "unsafe" not in told
    assert len(re.findall(r"-src 'sha256-[A-Za-z0-9+/]{43}='", told)) == 2
    assert policy(body.decode().replace("Bearer", "Bearer ")) != told


def test_the_page_does_not_keep_a_key_and_writes_no_markup() -> None:
    text = page()[1].decode()
    assert not re.search(r"localStorage|sessionStorage|document\.cookie|innerHTML|eval\(", text)


def test_a_head_request_gets_the_headers_alone() -> None:
    headers, body = page("HEAD")
    assert body == b""
    assert int(headers["content-length"]) > 5000


@pytest.fixture(scope="module")
def api() -> Iterator[StreamingServer]:
    with StreamingServer(KEY, page) as server:
        yield server


@pytest.fixture(scope="module")
def browser(api: StreamingServer) -> Iterator[Browser]:
    if not installed():
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")
    with Browser() as made:
        yield made


@pytest.fixture
def opened(browser: Browser, api: StreamingServer) -> Browser:
    """The page, with a key given and the models listed."""
    browser.open(api.url)
    browser.run(f"at('key').value = '{KEY}'; listModels()")
    browser.wait("at('model').length === 2")
    browser.run("at('reset').click()")
    return browser


def test_without_a_key_a_person_is_told_so(browser: Browser, api: StreamingServer) -> None:
    browser.open(api.url)
    told = browser.wait("document.querySelector('.error')?.textContent")
    assert told == "401: This server wants a key."


def test_a_person_asks_with_the_keyboard_alone_and_sees_the_speed(
    opened: Browser, api: StreamingServer
) -> None:
    opened.type("hello", "Enter")
    figures = opened.wait("at('figures').textContent.includes('/s') && at('figures').textContent")
    assert re.fullmatch(r"first token \d+ ms · 4 tokens · [\d.]+ tokens/s", figures)
    assert opened.run("return document.activeElement.id") == "prompt"
    opened.type("again", "Enter")
    opened.wait("document.querySelectorAll('.assistant').length === 2 && !asking")
    said = [message["content"] for message in api.bodies[-1]["messages"]]
    assert said[::2] == ["hello", "again"]
    assert said[1].endswith("é3 ")


def test_what_a_model_writes_stays_text(opened: Browser) -> None:
    opened.type("hello", "Enter")
    opened.wait("document.querySelector('.assistant') && !asking")
    assert opened.run("return document.querySelectorAll('img').length") == 0
    assert MARKUP in opened.run("return document.querySelector('.assistant').textContent")


def test_escape_stops_an_answer_and_the_server_notices(
    opened: Browser, api: StreamingServer
) -> None:
    opened.type("endless", "Enter")
    opened.wait("document.querySelector('.assistant')?.textContent.includes('and')")
    opened.type("Escape")
    opened.wait("!asking")
    assert api.gone.wait(10)
    assert opened.run("return document.querySelector('.error')") is None


def test_an_answer_that_is_cut_off_is_not_shown_as_whole(opened: Browser) -> None:
    opened.type("cut", "Enter")
    told = opened.wait("document.querySelector('.error')?.textContent")
    assert "cut off" in told
    assert opened.run("return at('prompt').value") == "cut"


def test_the_page_is_light_or_dark_as_the_person_likes(opened: Browser) -> None:
    seen = []
    for scheme in ("light", "dark"):
        opened.prefer(scheme)
        seen.append(opened.run("return getComputedStyle(document.body).backgroundColor"))
    assert seen == ["rgb(255, 255, 255)", "rgb(20, 23, 28)"]


def test_the_browser_forbids_the_page_nothing_that_it_does(opened: Browser) -> None:
    opened.complaints()  # those of earlier tests: the 401
    opened.type("hello", "Enter")
    opened.wait("document.querySelector('.assistant') && !asking")
    assert opened.complaints() == []
    assert opened.run("return localStorage.length + sessionStorage.length") == 0
    assert opened.run("return document.cookie") == ""
