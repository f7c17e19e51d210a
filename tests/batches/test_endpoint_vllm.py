"""An endpoint as the model of a batch run, against vLLM's own server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from tiny_llm import tiny_llm

from eksml.batches.models.endpoint import endpoint
from eksml.errors import InvalidSpec

KEY = "sk-of-this-test"
PATIENCE_S = 400
ROWS = pa.table({"text": [f"Tell me about {topic}" for topic in ("cats", "rain", "tea")] * 20})

pytestmark = [pytest.mark.long, pytest.mark.timeout(PATIENCE_S + 60)]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    command += ["--model", str(tiny_llm(folder / "tiny")), "--served-model-name", "tiny"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--api-key", KEY]
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    log = folder / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            command, env={**os.environ, **settings}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(60)


def wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(PATIENCE_S):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, TimeoutError):
            assert server.poll() is None, log.read_text()[-3000:]
            time.sleep(1)
    raise AssertionError(f"vLLM did not start: {log.read_text()[-3000:]}")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def test_a_real_server_answers_every_row_and_counts_its_tokens(url: str) -> None:
    model = endpoint(
        url,
        model="tiny",
        prompt="{text}",
        system="Be brief.",
        sampling={"temperature": 0, "max_tokens": 8, "ignore_eos": True},
    )
    assert model.check(ROWS.schema) == []
    loaded = model.load()
    outcome = loaded.compute(ROWS)
    loaded.close()
    assert outcome.errors == {}
    answers = outcome.columns["generated_text"].to_pylist()
    assert answers == answers[:3] * 20  # greedy: the same question, the same answer
    assert len(set(answers)) == 3
    assert outcome.lengths["tokens_out"] == [8] * 60
    assert all(count > 8 for count in outcome.lengths["tokens_in"])


def test_a_row_that_the_server_refuses_is_an_error_with_its_words(url: str) -> None:
    table = pa.table({"text": ["word " * 5000, "short"]})
    loaded = endpoint(
        url, model="tiny", prompt="{text}", api="completions", sampling={"max_tokens": 4}
    ).load()
    outcome = loaded.compute(table)
    loaded.close()
    assert list(outcome.errors) == [0]
    assert "400" in outcome.errors[0]
    assert "512" in outcome.errors[0]  # the context, in tokens
    assert outcome.columns["generated_text"].null_count == 1


def test_an_answer_can_be_bound_to_choices(url: str) -> None:
    sampling = {"temperature": 1, "structured_outputs": {"choice": ["yes", "no"]}}
    loaded = endpoint(url, model="tiny", prompt="{text}", sampling=sampling).load()
    outcome = loaded.compute(ROWS)
    loaded.close()
    assert outcome.errors == {}
    assert set(outcome.columns["generated_text"].to_pylist()) <= {"yes", "no"}


def test_a_wrong_key_and_a_wrong_model_are_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = endpoint(url, model="tyni", prompt="{text}").load()
    with pytest.raises(InvalidSpec, match=r"model: 404.*tyni"):
        loaded.compute(ROWS)
    loaded.close()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    with pytest.raises(InvalidSpec, match="api_key_env: 401"):
        endpoint(url, model="tiny", prompt="{text}").load()
