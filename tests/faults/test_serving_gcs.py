"""FAULTS case 25: the GCS, Ray's own memory, is killed under load and comes back from its disk.

No request passes through it: the proxy and the replicas know each other."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from eksml.backends.launch import Site, head_command, node_environment
from eksml.backends.processes import Process, kill_node, members
from eksml.cluster import Cluster, Head
from eksml.serving import ModelSpec, ServeSpec
from eksml.serving.config import serve_config
from eksml.serving.environment import serve_environment
from eksml.testing.load import Load, driving
from eksml.testing.outcomes import Outcome
from eksml.testing.ports import free_ports

sys.path.insert(0, str(Path(__file__).parent.parent))
from tiny_llm import tiny_llm

REQUESTS, RATE = 300, 10.0
AWAY_S = 5.0
"""How long there is no GCS: a pod takes about that to be started again."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Node:
    """A Ray of one node whose GCS writes all that it knows to disk."""

    site: Site
    environment: dict[str, str]
    leader: Process
    mark: str

    def gcs(self) -> psutil.Process:
        found = map(psutil.Process, members(self.leader, self.mark))
        [server] = [each for each in found if each.name() == "gcs_server"]
        return server


@pytest.fixture
def node() -> Iterator[Node]:
    folder = Path(tempfile.mkdtemp(prefix="eksml-gcs-"))  # short, for the sake of Ray's sockets
    token, storage = folder / "token", folder / "gcs"
    token.write_text(secrets.token_hex(32))
    storage.mkdir()
    cluster, mark = Cluster(name="gcs", head=Head(cpus=4)), secrets.token_hex(8)
    site = Site.choose(cluster, folder, token)
    environment = node_environment(cluster, cluster.head, site, mark)
    environment |= {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(storage)}
    # Without --block, for then the death of one process is the end of all
    command = [word for word in head_command(cluster, site) if word != "--block"]
    starter = subprocess.Popen(command, env=environment, start_new_session=True)
    leader = Process.of(starter.pid)
    assert leader is not None
    try:
        assert starter.wait(180) == 0
        yield Node(site, environment, leader, mark)
    finally:
        kill_node(leader, mark)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def url(node: Node, tmp_path: Path) -> str:
    """A model that is served there."""
    [port, *more] = free_ports(4)
    model = ModelSpec(
        name="tiny",
        source=str(tiny_llm(tmp_path / "tiny", context=512)),
        device="cpu",
        engine={"max_num_seqs": 8},
        queue=REQUESTS,  # a busy machine may be slow, and refuses nobody for it
    )
    config = serve_config(ServeSpec(models=(model,)))
    config["http_options"]["port"] = port
    config["controller_options"]["runtime_env"]["env_vars"] = serve_environment(more)
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))
    command = [Path(sys.executable).parent / "serve", "deploy", tmp_path / "serve.yaml"]
    subprocess.run(
        [*command, "-a", node.site.jobs_address], env=os.environ | node.environment, check=True
    )
    root = f"http://127.0.0.1:{port}"
    wait_for(lambda: answers(f"{root}/ready"))
    return f"{root}/v1"


def wait_for(holds: Callable[[], object], within_s: float = 240) -> None:
    end_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.2)


def answers(url: str, headers: dict[str, str] | None = None) -> Any:
    """The body, or nothing."""
    try:
        asked = urllib.request.Request(url, headers=headers or {})
        with urllib.request.urlopen(asked, timeout=10) as response:
            return json.loads(response.read())
    except (OSError, ValueError):
        return None


def test_requests_are_answered_while_there_is_no_gcs_and_serve_is_governed_after_it(
    node: Node, url: str
) -> None:
    load = Load(url, "tiny", REQUESTS, rate=RATE, stream=0.5, max_tokens=8, timeout_s=120)
    with driving(load) as report:
        time.sleep(4)
        gcs = node.gcs()
        command, environment = gcs.cmdline(), gcs.environ()
        gcs.kill()
        time.sleep(AWAY_S)
        again = subprocess.Popen(command, env=environment)
    print(f"\nthe GCS was away for {AWAY_S:g} s\n{report()}", flush=True)
    assert report().count(Outcome.OK) == REQUESTS
    assert again.poll() is None
    token = node.site.token_path.read_text()
    serve = f"{node.site.jobs_address}/api/serve/applications/"

    def governed() -> bool:
        told = answers(serve, {"Authorization": f"Bearer {token}"}) or {}
        return [app["status"] for app in told.get("applications", {}).values()] == ["RUNNING"]

    wait_for(governed, within_s=60)
    assert node.gcs().pid == again.pid
