"""A cluster of several nodes on one machine, as a user and as Ray see it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from census import temp_of, wait_until  # type: ignore[import-not-found]

from eksml import Cluster, backends
from eksml.backends.base import NodeStatus
from eksml.backends.dashboard import Dashboard
from eksml.backends.local import LocalRunning
from eksml.cluster import Demand, preflight
from eksml.errors import ClusterError, ClusterInUse, ClusterNotUp, DoesNotFit, InvalidSpec

pytestmark = pytest.mark.long

WATCH_A_NODE_DIE = """
import ray, time
ray.init(log_to_driver=False)
@ray.remote(resources={"disk": 1}, num_cpus=0)
class Busy:
    def node(self): return ray.get_runtime_context().get_node_id()
busy = Busy.remote()
node = ray.get(busy.node.remote())
print("holds", node, flush=True)
while True:
    told = next(n for n in ray.nodes() if n["NodeID"] == node)
    if not told["Alive"]:
        break
    time.sleep(0.1)
print("gone:", told["DeathReasonMessage"], flush=True)
"""


def nodes_of(running: LocalRunning, group: str, phase: str = "running") -> list[NodeStatus]:
    return [node for node in running.nodes() if node.group == group and node.phase == phase]


def submit(running: LocalRunning, code: str, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            Path(sys.executable).parent / "ray",
            "job",
            "submit",
            *options,
            "--",
            "python",
            "-c",
            code,
        ],
        env={**os.environ, **running.env()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def get(url: str, headers: dict[str, str]) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_ray_tells_how_long_its_nodes_lived(trio: LocalRunning) -> None:
    lives = Dashboard(trio.jobs_address, trio.token).lives()
    alive = sorted(life.group for life in lives if life.ended_s is None)
    running = (node.group for node in trio.nodes() if node.phase == "running")
    assert alive == sorted("headgroup" if group == "head" else group for group in running)
    assert all(time.time() - 3600 < life.started_s <= time.time() for life in lives)
    assert all(life.ended_s is None or life.ended_s >= life.started_s for life in lives)
    assert trio.receipt() is None, "nodes of this machine cost nothing"


def test_ray_sees_the_resources_and_labels_of_each_group(trio: LocalRunning) -> None:
    nodes = {node.group: node for node in trio.nodes()}
    assert nodes["head"].resources["CPU"] == 2
    assert nodes["cpu"].resources["disk"] == 2
    assert nodes["gpu"].resources["GPU"] == 2
    assert nodes["gpu"].labels["ray.io/market-type"] == "spot"
    assert nodes["gpu"].labels["ray.io/accelerator-type"] == "L4"
    assert nodes["cpu"].labels["ray.io/node-group"] == "cpu"
    assert nodes["cpu"].labels["zone"] == "a"
    assert len({node.ip for node in nodes.values()}) == 3


def test_the_status_is_a_table_that_a_person_can_read(trio: LocalRunning) -> None:
    table = str(trio.status())
    assert table.startswith(f"trio: running, {trio.jobs_address}")
    assert "GPU=2" in table
    assert "disk=2" in table


def test_ray_job_submit_runs_on_the_node_that_has_the_resource(trio: LocalRunning) -> None:
    told = "import os; print('on', os.environ['GREETING'], os.environ['RAY_AUTH_MODE'])"
    job = submit(trio, told, "--entrypoint-resources", '{"disk": 1}')
    out, _ = job.communicate(timeout=90)
    assert job.returncode == 0
    assert "on hello token" in out


def test_one_process_talks_to_a_cluster_without_any_variable_set(
    trio: LocalRunning, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.job_submission import JobSubmissionClient

    for name in [name for name in os.environ if name.startswith("RAY_AUTH")]:
        monkeypatch.delenv(name)  # of a Ray that an earlier test started in this process
    client = JobSubmissionClient(trio.jobs_address, headers=trio.headers())
    assert client.list_jobs() is not None


@pytest.mark.parametrize("path", ["/api/version", "/api/jobs/", "/api/v0/nodes", "/nodes"])
def test_the_jobs_api_refuses_whoever_has_no_token(trio: LocalRunning, path: str) -> None:
    url = trio.jobs_address + path
    assert get(url, {}) == 401
    assert get(url, {"Authorization": "Bearer wrong"}) == 403


def test_the_token_is_in_one_private_file_and_in_no_command_line_or_log(
    trio: LocalRunning, home: Path
) -> None:
    token_file = Path(trio.env()["RAY_AUTH_TOKEN_PATH"])
    assert token_file.stat().st_mode & 0o077 == 0
    assert token_file.parent.stat().st_mode & 0o077 == 0
    holders = [
        path
        for folder in (home, temp_of(trio))
        for path in folder.rglob("*")
        if path.is_file() and trio.token.encode() in path.read_bytes()
    ]
    assert holders == [token_file]
    commands = [
        " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])
    ]
    assert not any(trio.token in command for command in commands)
    assert trio.token not in repr(trio) + str(trio.status())


def test_up_again_gives_the_cluster_that_is_up(trio: LocalRunning) -> None:
    with trio.spec.up() as again:
        assert again.nodes() == trio.nodes()
    assert trio.status().phase == "running", "a block that did not start it must not end it"


def test_up_with_another_specification_is_refused(trio: LocalRunning) -> None:
    with pytest.raises(ClusterInUse, match="eksml down trio"):
        Cluster(name="trio").up()


def test_of_finds_it_by_name_specification_file_handle_and_address(
    trio: LocalRunning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "trio.yaml"
    file.write_text(trio.spec.to_yaml())
    for given in ("trio", trio.spec, str(file), file):
        found = backends.of(given)
        assert found is not None
        assert found.jobs_address == trio.jobs_address
    assert backends.of(trio) is trio
    assert backends.of(None) is None
    monkeypatch.setenv("RAY_AUTH_TOKEN", trio.token)
    remote = backends.of(trio.jobs_address)
    assert remote is not None
    assert {node.group for node in remote.nodes()} == {"head", "cpu", "gpu"}
    with pytest.raises(DoesNotFit):
        preflight(Demand(({"GPU": 1},) * 3), remote.offers())


def test_of_says_what_to_do_when_it_is_not_up(
    trio: LocalRunning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ClusterNotUp, match=r"up: trio"):
        backends.of("other")
    file = tmp_path / "other.yaml"
    file.write_text("name: other")
    with pytest.raises(ClusterNotUp, match=f"eksml up {file}"):
        backends.of(file)
    with pytest.raises(ClusterNotUp):
        backends.of("http://127.0.0.1:1")
    with pytest.raises(ClusterError, match="RAY_AUTH_TOKEN"):
        backends.of(trio.jobs_address)
    assert backends.find("../trio") is None


def test_a_group_scales_up_and_down_within_its_range(trio: LocalRunning) -> None:
    trio.scale("cpu", 2)
    wait_until(lambda: len(nodes_of(trio, "cpu")) == 2, "two cpu nodes")
    trio.scale("cpu", 1)
    wait_until(lambda: [n.group for n in trio.nodes()].count("cpu") == 1, "one cpu node")
    assert nodes_of(trio, "cpu"), "the one that was there before stays"
    for wrong in (3, -1, True):
        with pytest.raises(InvalidSpec, match="1 to 2"):
            trio.scale("cpu", wrong)
    with pytest.raises(InvalidSpec, match="Its groups: cpu, gpu"):
        trio.scale("tpu", 1)


def test_a_node_that_is_killed_is_replaced(trio: LocalRunning) -> None:
    before = nodes_of(trio, "gpu")[0]
    trio.kill(before.id)
    wait_until(lambda: nodes_of(trio, "gpu"), "a new gpu node", 120)
    after = nodes_of(trio, "gpu")[0]
    assert after.id != before.id
    assert after.node_id != before.node_id
    wait_until(
        lambda: before.node_id not in {node.node_id for node in trio.nodes()},
        "Ray has noticed the death",
        timeout_s=15,
    )


def test_an_interrupted_node_has_its_notice_then_is_killed_and_replaced(
    trio: LocalRunning,
) -> None:
    wait_until(lambda: len(nodes_of(trio, "cpu")) == 1, "one node that has the resource")
    node = nodes_of(trio, "cpu")[0]
    job = submit(trio, WATCH_A_NODE_DIE)
    assert job.stdout is not None
    assert any(line.startswith("holds " + node.node_id) for line in job.stdout)
    began = time.monotonic()
    trio.interrupt(node.id)
    assert [n.id for n in nodes_of(trio, "cpu", "draining")] == [node.id]
    rest = job.stdout.read()
    job.wait(timeout=60)
    # Ray names the drain, or the raylet's own farewell where that arrives first.
    assert "received SIGTERM" in rest.partition("gone: ")[2].splitlines()[0]
    assert time.monotonic() - began >= trio.spec.notice_s - 1, "a busy node has its whole notice"
    wait_until(lambda: nodes_of(trio, "cpu"), "a replacement", 120)
    assert nodes_of(trio, "cpu")[0].id != node.id


def test_what_cannot_be_interrupted_is_refused(trio: LocalRunning) -> None:
    with pytest.raises(InvalidSpec) as refused:
        trio.interrupt("head", notice_s=60)
    assert [problem.path for problem in refused.value.problems] == ["node", "notice_s"]
    with pytest.raises(ClusterError, match="not a node of cluster 'trio'"):
        trio.kill("cpu-99")


def test_a_cluster_whose_head_is_killed_starts_anew_at_the_same_address(
    trio: LocalRunning,
) -> None:
    before = {node.node_id for node in trio.nodes()}
    address = trio.jobs_address
    trio.kill("head")
    assert trio.status().phase == "starting"
    wait_until(lambda: trio.status().phase == "running", "all nodes are back", 120)
    assert trio.jobs_address == address
    assert {node.group for node in trio.nodes()} == {"head", "cpu", "gpu"}
    assert not before & {node.node_id for node in trio.nodes()}
