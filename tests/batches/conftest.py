"""vLLM's own server for the tests of this folder that need one, with a random Llama inside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_llm import tiny_llm

from eksml.testing.ports import free_ports

KEY = "sk-of-this-test"
PATIENCE_S = 400


@pytest.fixture(scope="session")
def server_of_vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL at which vLLM serves the model ``tiny`` to whoever has the key."""
    folder = tmp_path_factory.mktemp("served")
    [port] = free_ports(1)
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    command += ["--model", str(tiny_llm(folder / "tiny")), "--served-model-name", "tiny"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--api-key", KEY]
    command += ["--dtype", "bfloat16"]
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    log = folder / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            command, env={**os.environ, **settings}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(60)


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, TimeoutError):
            assert server.poll() is None, log.read_text()[-3000:]
            time.sleep(0.5)
    raise AssertionError(f"vLLM did not start: {log.read_text()[-3000:]}")


@pytest.fixture
def vllm_url(server_of_vllm: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """That URL, while this process has the key."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return server_of_vllm
