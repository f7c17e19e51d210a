"""The Serve configurations that come with eksml: valid, and what their comments say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from eksml.cluster import Cluster
from eksml.cluster.preflight import preflight
from eksml.cluster.render import ray_object
from eksml.serving.config import demands_of, on_cluster, ray_service_spec, read

REPOSITORY = Path(__file__).parents[2]
FILES = sorted((REPOSITORY / "serve_apps").glob("*.yaml"))


def test_these_are_the_files() -> None:
    assert [file.stem for file in FILES] == [
        *("embeddings", "llm-latency", "llm-throughput", "llm"),
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_serve_and_eksml_take_it_as_it_is(file: Path) -> None:
    from ray.serve.schema import ServeDeploySchema

    ServeDeploySchema.model_validate(yaml.safe_load(file.read_text()))
    (model,) = read(file).models
    assert model.source


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_says_in_its_head_how_it_is_deployed(file: Path) -> None:
    head = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert f"#   serve deploy serve_apps/{file.name}" in " ".join(head)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_cluster_for_serving_can_hold_it_as_a_rayservice(file: Path) -> None:
    cluster = Cluster.load(REPOSITORY / "clusters" / "llm-serve.yaml")
    written = read(file)
    placed = tuple(on_cluster(model, cluster) for model in written.models)
    assert preflight(demands_of(placed), cluster).workers
    assert ray_object(cluster, ray_service_spec(written.config))["kind"] == "RayService"


def test_the_two_profiles_are_shown_by_a_file_each() -> None:
    profiles = {
        file.stem: read(file).models[0].profile for file in FILES if file.stem.startswith("llm-")
    }
    assert profiles == {"llm-latency": "latency", "llm-throughput": "throughput"}
