"""``eksml.serve``: what it refuses, and what it returns.

What becomes of an engine that dies is in ``tests/faults/test_serving.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from eksml.errors import InvalidSpec
from eksml.serving import ModelSpec
from eksml.serving.verb import serve

if TYPE_CHECKING:
    from eksml.serving.endpoint import Endpoint


pytestmark = pytest.mark.long


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.status == 200
        return str(answer.read(), "utf-8")


def test_an_endpoint_tells_where_and_how_its_models_are(endpoint: Endpoint) -> None:
    assert endpoint.models == ("tiny", "pirate")
    state = endpoint.status()["tests"]
    assert (state.status, state.replicas) == ("RUNNING", {"RUNNING": 1})
    assert endpoint.url in endpoint._repr_html_()
    assert "RUNNING" in endpoint._repr_html_()


def test_health_readiness_and_the_page_to_try_it_need_no_key(endpoint: Endpoint) -> None:
    root = endpoint.url.removesuffix("/v1")
    assert "ok" in get(f"{root}/health")
    assert "ok" in get(f"{root}/ready")
    assert "<html" in get(f"{root}/")


def test_vllms_other_routes_are_closed(endpoint: Endpoint) -> None:
    root = endpoint.url.removesuffix("/v1")
    for path in ("/pause", "/invocations", "/v1/load_lora_adapter", "/tokenize", "/openapi.json"):
        for data in (None, b"{}"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{root}{path}", data=data, timeout=10)
            assert refused.value.code == 404, path


def test_vllms_own_benchmark_runs_against_it_unchanged(
    endpoint: Endpoint, tiny: Path, tmp_path: Path
) -> None:
    # vLLM's build for CPUs is a package of another name, without which its command does not start
    known = tmp_path / "vllm-0.32.0+cpu.dist-info"
    known.mkdir()
    (known / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")
    flags = {
        "backend": "openai",
        "base-url": endpoint.url.removesuffix("/v1"),
        "model": "tiny",
        "tokenizer": str(tiny),
        "dataset-name": "random",
        "random-input-len": 16,
        "random-output-len": 8,
        "num-prompts": 8,
        "max-concurrency": 4,
    }
    command = Path(sys.executable).parent / "vllm"
    done = subprocess.run(
        [command, "bench", "serve", *(f"--{name}={value}" for name, value in flags.items())],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        timeout=180,
        check=False,
    )
    said = [line.split() for line in done.stdout.splitlines()]
    assert ["Successful", "requests:", "8"] in said, done.stdout[-2000:] + done.stderr[-2000:]


def test_everything_that_is_wrong_is_told_before_anything_starts(tmp_path: Path) -> None:
    wrong = ModelSpec(
        name="a", source=str(tmp_path / "nowhere"), engine={"max_num_seq": 4}, device="cpu"
    )
    with pytest.raises(InvalidSpec) as refused:
        serve(wrong)
    told = {problem.path: str(problem) for problem in refused.value.problems}
    assert "max_num_seqs" in told["models.0.engine.max_num_seq"]
    assert "nowhere" in told["models.0.source"]


def test_a_source_alone_is_named_by_its_last_part(tmp_path: Path) -> None:
    source = str(tmp_path / "my-model")
    with pytest.raises(InvalidSpec, match="'my-model' is the name of two"):
        serve([source, {"name": "my-model", "source": source}])
