"""A server for each test, and the official client of OpenAI for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from jobs_server import EchoEngine, api_server

from eksml.serving.batch_jobs import worker
from eksml.storage import URI


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "POLL_S", 0.05)


@pytest.fixture
def connect(root: URI) -> Iterator[Callable[..., Any]]:
    """Starts the server, with a worker if there is an engine, and gives a client by tenant."""
    with contextlib.ExitStack() as stack:

        def start(engine: EchoEngine | None = None) -> Callable[[str], openai.OpenAI]:
            url = stack.enter_context(api_server(root, engine))
            return lambda tenant: openai.OpenAI(base_url=url, api_key=tenant, max_retries=0)

        yield start
