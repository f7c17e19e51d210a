"""``eksml chat``: a conversation in the terminal, with the real client of the protocol."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from streaming_server import TEXT, StreamingServer
from typer.testing import CliRunner, Result

from eksml.errors import InvalidSpec
from eksml.serving.chat import base_url

EKSML = Path(sys.executable).with_name("eksml")
ANSWER = "".join(TEXT)


@pytest.fixture(scope="module")
def server() -> Iterator[StreamingServer]:
    with StreamingServer() as made:
        yield made


def chat(*arguments: str, says: str = "", key: str = "") -> Result:
    """Run the command with lines that somebody types."""
    from eksml.cli.main import app

    return CliRunner().invoke(app, ["chat", *arguments], input=says, env={"EKSML_API_KEY": key})


def test_one_question_prints_its_answer_and_nothing_else(server: StreamingServer) -> None:
    done = chat(server.url, "hello")
    assert done.exit_code == 0
    assert done.stdout == ANSWER + "\n"
    assert server.bodies[-1]["model"] == "tiny"
    assert server.bodies[-1]["messages"] == [{"role": "user", "content": "hello"}]


def test_a_conversation_remembers_what_was_said(server: StreamingServer) -> None:
    done = chat(server.url, "--model", "large", says="hello\nand then?\n")
    assert done.exit_code == 0
    assert done.stdout == f"{ANSWER}\n{ANSWER}\n"
    assert re.search(r"\(first token \d+ ms · 4 tokens · [\d.]+ tokens/s\)", done.stderr)
    assert server.bodies[-1]["model"] == "large"
    assert [message["content"] for message in server.bodies[-1]["messages"]] == [
        *("hello", ANSWER, "and then?")
    ]


def test_reset_forgets_and_system_stays(server: StreamingServer) -> None:
    done = chat(server.url, says="hello\n/system Be brief.\n/reset\nagain\n")
    assert "Everything is forgotten." in done.stderr
    assert server.bodies[-1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "again"},
    ]


def test_a_word_that_is_no_command_is_not_sent(server: StreamingServer) -> None:
    before = len(server.bodies)
    done = chat(server.url, says="/rest\n/help\n\n")
    assert "/rest is not known." in done.stderr
    assert done.stderr.count("Ctrl-C stops an answer") == 3
    assert len(server.bodies) == before


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("400", "400: refused with 400"),
        ("503", "answered 503: refused with 503"),
        ("die", "broke off: the engine died"),
        ("cut", "broke off. Ask again."),
    ],
)
def test_an_error_is_a_sentence(server: StreamingServer, question: str, told: str) -> None:
    done = chat(server.url, question)
    assert done.exit_code == 1
    assert told in done.stderr
    assert "Traceback" not in done.output


def test_a_conversation_outlives_an_error_and_forgets_its_question(
    server: StreamingServer,
) -> None:
    done = chat(server.url, says="hello\ndie\nagain\n")
    assert done.exit_code == 0
    assert "the engine died" in done.stderr
    asked = [message["content"] for message in server.bodies[-1]["messages"]]
    assert asked == ["hello", ANSWER, "again"]


def test_a_wrong_key_is_told_with_what_to_do() -> None:
    with StreamingServer("sk-right") as server:
        refused = chat(server.url, "hello", key="sk-wrong")
        assert refused.exit_code == 1
        assert "This server wants a key." in refused.stderr
        assert "EKSML_API_KEY" in refused.stderr
        assert "sk-wrong" not in refused.output
        assert chat(server.url, "hello", key="sk-right").stdout == ANSWER + "\n"


def test_a_model_that_is_not_served_is_told_with_those_that_are(server: StreamingServer) -> None:
    done = chat(server.url, "hello", "--model", "huge")
    assert done.exit_code == 1
    assert "'huge' is not served" in done.stderr
    assert "There are: tiny, large." in done.stderr


def test_a_server_that_is_not_there_is_told() -> None:
    done = chat("http://127.0.0.1:9", "hello")
    assert done.exit_code == 1
    assert "http://127.0.0.1:9/v1 does not answer" in done.stderr


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://h", "", "http://", "llm"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidSpec, match="is not a URL"):
        base_url(url)


@pytest.mark.parametrize("url", ["http://h:1/llm", "http://h:1/llm/", "http://h:1/llm/v1"])
def test_the_version_is_added_where_it_is_missing(url: str) -> None:
    assert base_url(url) == "http://h:1/llm/v1"


def test_ctrl_c_stops_the_answer_and_not_the_chat() -> None:
    person, terminal = pty.openpty()
    with StreamingServer() as server:
        process = subprocess.Popen(
            [EKSML, "chat", server.url],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, "TERM": "dumb"},
        )
        try:
            os.write(person, b"endless\n")
            read_until(person, "and and ")
            process.send_signal(signal.SIGINT)
            assert server.gone.wait(30)
            read_until(person, "(stopped)")
            os.write(person, b"again\n")
            read_until(person, "tokens/s)\r\n> ")
            os.write(person, b"\x04")
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
            os.close(person)
            os.close(terminal)
    asked = server.bodies[-1]["messages"]
    assert [message["role"] for message in asked] == ["user", "assistant", "user"]
    assert asked[1]["content"].startswith(ANSWER + "and and ")


def read_until(terminal: int, wanted: str) -> None:
    seen = ""
    until = time.monotonic() + 60
    while wanted not in seen:
        assert time.monotonic() < until, seen
        seen += os.read(terminal, 4096).decode(errors="replace")
