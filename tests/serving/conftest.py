"""One served model for all tests of this folder that need one, with a random Llama inside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tiny_llm import tiny_adapter, tiny_llm

from eksml.serving import ModelSpec
from eksml.testing.ports import free_ports

if TYPE_CHECKING:
    from eksml.serving.endpoint import Endpoint

CONTEXT = 512


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder."""
    return tiny_llm(tmp_path_factory.mktemp("models") / "tiny", context=CONTEXT)


@pytest.fixture(scope="session")
def served_model(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """What ``endpoint`` serves."""
    adapter = tiny_adapter(tmp_path_factory.mktemp("adapters") / "pirate", seed=1)
    return ModelSpec(
        name="tiny",
        source=str(tiny),
        adapters={"pirate": str(adapter)},
        engine={
            "max_num_seqs": 16,
            "enable_auto_tool_choice": True,
            "tool_call_parser": "hermes",
            # A random model would fill its answer with blanks
            "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        },
    )


@pytest.fixture(scope="session")
def serve_port() -> int:
    """Of the one Serve that all endpoints of this session share."""
    [port] = free_ports(1)
    return port


@pytest.fixture(scope="session")
def endpoint(embedded_ray: None, served_model: ModelSpec, serve_port: int) -> Iterator[Endpoint]:
    """The model on the Ray of the tests, behind Serve."""
    from eksml.serving.verb import serve

    with serve(served_model, port=serve_port, name="tests", timeout_s=300) as running:
        yield running
