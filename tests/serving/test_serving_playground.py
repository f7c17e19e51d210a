"""The page on which a person tries a model, with a stub of the API; in a browser where one is."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from browser import Browser, installed

from eksml.serving.playground import playground, policy

KEY = "sk-secret"
MARKUP = "<img src=x onerror=alert(1)> "


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


class Api:
    """A stub of the API under ``/llm/``: needs a key, and does what the prompt says."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.gone = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self.server.server_port}/llm"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/llm":
                    headers, body = page()
                    self._send(200, headers, body)
                elif self._has_key():
                    models = {"data": [{"id": "tiny"}, {"id": "large"}]}
                    self._send(200, {}, json.dumps(models).encode())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                api.bodies.append(body)
                if self._has_key():
                    self._stream(body["messages"][-1]["content"])

            def _has_key(self) -> bool:
                if self.headers["Authorization"] == f"Bearer {KEY}":
                    return True
                refused = {"error": {"message": "This server wants a key."}}
                self._send(401, {}, json.dumps(refused).encode())
                return False

            def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def _stream(self, prompt: str) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                for number in range(4):
                    time.sleep(0.05)
                    delta = {"content": f"{MARKUP}é{number} "}
                    self._event(json.dumps({"choices": [{"delta": delta}]}))
                if prompt == "cut":
                    return
                try:
                    while prompt == "endless":
                        time.sleep(0.05)
                        self._event(json.dumps({"choices": [{"delta": {"content": "and "}}]}))
                except OSError:
                    api.gone.set()
                    return
                self._event(json.dumps({"choices": [], "usage": {"completion_tokens": 4}}))
                self._event("[DONE]")

            def _event(self, text: str) -> None:
                self.wfile.write(f"data: {text}\n\n".encode())

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    made = Api()
    made.thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    made.thread.join()


@pytest.fixture(scope="module")
def browser(api: Api) -> Iterator[Browser]:
    if not installed():
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")
    with Browser() as made:
        yield made


@pytest.fixture
def opened(browser: Browser, api: Api) -> Browser:
    """The page, with a key given and the models listed."""
    browser.open(api.url)
    browser.run(f"at('key').value = '{KEY}'; listModels()")
    browser.wait("at('model').length === 2")
    browser.run("at('reset').click()")
    return browser


def test_without_a_key_a_person_is_told_so(browser: Browser, api: Api) -> None:
    browser.open(api.url)
    told = browser.wait("document.querySelector('.error')?.textContent")
    assert told == "401: This server wants a key."


def test_a_person_asks_with_the_keyboard_alone_and_sees_the_speed(
    opened: Browser, api: Api
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


def test_escape_stops_an_answer_and_the_server_notices(opened: Browser, api: Api) -> None:
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
