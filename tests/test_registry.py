"""Registered versions, in a real registry of MLflow's in SQLite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import invoke_json
from tiny_llm import tiny_llm

from eksml.batches.models.llm_call import llm
from eksml.errors import InvalidSpec, NotFound, StorageUnavailable
from eksml.registry import name_of, place_of
from eksml.serving import ModelSpec, ServeSpec
from eksml.serving.device import located
from eksml.serving.verb import checked

Register = Callable[[str], str]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/registry.db"


@pytest.fixture
def client(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    mlflow.set_tracking_uri(None)
    found = mlflow.MlflowClient()
    found.create_registered_model("qwen")
    yield found
    found.delete_registered_model("qwen")


@pytest.fixture
def register(client: Any) -> Register:
    """Registers a place, and gives its version."""
    return lambda place: str(client.create_model_version("qwen", place).version)


def test_what_is_not_registered_stays_as_it_is() -> None:
    for source in ("Qwen/Qwen3-8B", "/models/qwen", "s3://bucket/qwen"):
        assert place_of(source) == source


def test_a_version_lies_where_it_was_registered(register: Register) -> None:
    for place in ("s3://bucket/one", "/models/two", "file:///models/of%20three"):
        assert place_of(f"models:/qwen/{register(place)}") == place


def test_an_alias_means_what_it_means_now(client: Any, register: Register) -> None:
    first, second = register("s3://bucket/one"), register("s3://bucket/two")
    client.set_registered_model_alias("qwen", "production", first)
    assert place_of("models:/qwen@production") == "s3://bucket/one"
    client.set_registered_model_alias("qwen", "production", second)
    assert place_of("models:/qwen@production") == "s3://bucket/two"


@pytest.mark.parametrize("source", ["models:/nobody/1", "models:/qwen/7", "models:/qwen@nothing"])
def test_what_the_registry_does_not_have_is_told(register: Register, source: str) -> None:
    register("s3://bucket/one")
    with pytest.raises(NotFound, match=source.replace("/", ".")):
        place_of(source)


@pytest.mark.parametrize(
    "source", ["models:/qwen", "models:/", "models:/qwen/one", "models:/a@b/1"]
)
def test_what_names_no_version_is_refused(source: str) -> None:
    with pytest.raises(InvalidSpec, match="models:/NAME@ALIAS"):
        place_of(source)


def test_files_that_only_mlflows_server_can_read_are_refused(register: Register) -> None:
    version = register("mlflow-artifacts:/1/models/x")
    with pytest.raises(InvalidSpec, match="only MLflow's server can read"):
        place_of(f"models:/qwen/{version}")


def test_a_registry_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(None)
    with pytest.raises(StorageUnavailable, match="models:/qwen/1"):
        place_of("models:/qwen/1")


def test_a_registered_model_is_called_by_its_name() -> None:
    assert name_of("models:/qwen@production") == name_of("models:/qwen/3") == "qwen"
    assert name_of("Qwen/Qwen3-8B") == "Qwen3-8B"


def test_what_is_served_and_computed_is_the_version_of_that_moment(
    client: Any, register: Register, tmp_path: Path
) -> None:
    pytest.importorskip("vllm")
    folder = str(tiny_llm(tmp_path / "tiny"))
    client.set_registered_model_alias("qwen", "production", register(folder))
    model = ModelSpec(name="qwen", source="models:/qwen@production")
    assert checked(ServeSpec(models=(model,)), None).models[0].source == folder
    assert located(model).source == folder
    assert llm("models:/qwen@production", prompt="{text}").source == folder


def test_explain_looks_a_version_up_for_its_memory(
    client: Any, register: Register, tmp_path: Path
) -> None:
    client.set_registered_model_alias("qwen", "production", register(str(tiny_llm(tmp_path / "t"))))
    told = invoke_json("serve", "explain", "models:/qwen@production")
    assert told["qwen"]["need"]["weights"] > 0
