"""Workers that are forked from the copy that the first one left behind.

A run whose workers are forked after a kill is in ``tests/faults/test_training.py``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from eksml.training import standby
from eksml.training.standby import launcher

pytestmark = pytest.mark.long

WORKER = """
import json, os, pathlib, sys, time
import numpy, ray
place, action = sys.argv[-2:]
facts = dict(pid=os.getpid(), parent=os.getppid(), group=os.getpgrp(), cwd=os.getcwd(),
    main=__name__, argv=sys.argv, imported="torch" in sys.modules, random=numpy.random.random(),
    id=ray.ObjectRef.from_random().hex())
pathlib.Path(place + ".tmp").write_text(json.dumps(facts))
os.rename(place + ".tmp", place)
print("hello from", place, flush=True)
if action == "wait":
    time.sleep(600)
sys.exit(int(action))
"""


class Node:
    """A stand-in for a raylet, and the launchers that it starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "worker.py").write_text(WORKER)
        command = json.dumps(self.command("first", "wait"))
        self.environ = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
        script = f"import subprocess; subprocess.Popen({command}).wait()"
        self.raylet = subprocess.Popen([sys.executable, "-c", script], env=self.environ)
        self.first = self.facts("first")
        wait_until(self.listens)
        self.template = self.find_template()

    def command(self, name: str, action: str) -> list[str]:
        worker = [str(self.folder / "worker.py"), f"--raylet-name={self.folder}/raylet"]
        launch = [sys.executable, "-I", "-S", launcher.__file__, *worker, "--node-id=1"]
        return [*launch, str(self.folder / name), action]

    def launch(self, name: str, action: str, **options) -> subprocess.Popen:
        options = {"env": self.environ, "process_group": 0, **options}
        return subprocess.Popen(self.command(name, action), **options)

    def facts(self, name: str) -> dict:
        wait_until((self.folder / name).exists)
        return json.loads((self.folder / name).read_text())

    def listens(self) -> bool:
        for place in (self.folder / "eksml").iterdir():
            if place.is_socket():
                with socket.socket(socket.AF_UNIX) as connection:
                    return connection.connect_ex(str(place)) == 0
        return False

    def find_template(self) -> int:
        """The process that was forked from the first worker and looks like it."""
        place = str(self.folder / "first")
        found = [
            p.pid for p in psutil.process_iter(["cmdline"]) if place in (p.info["cmdline"] or [])
        ]
        [template] = set(found) - {self.first["pid"]}
        return template

    def end(self) -> None:
        for pid in (self.first["pid"], self.raylet.pid):
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)
        self.raylet.wait()


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    made = Node(tmp_path_factory.mktemp("n"))
    yield made
    made.end()


def wait_until(condition, timeout_s: float = 120) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "waited too long"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_the_first_worker_is_the_process_that_ray_started(node):
    assert node.first["parent"] == node.raylet.pid
    assert node.first["main"] == "__main__"


def test_a_later_worker_is_forked_with_everything_imported(node, tmp_path):
    process = node.launch("later", "0", cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate()
    facts = node.facts("later")
    assert output == f"hello from {node.folder}/later\n"
    assert facts["parent"] == node.template
    assert facts["imported"]
    assert facts["main"] == "__main__"
    assert facts["argv"] == node.command("later", "0")[4:]
    assert facts["cwd"] == str(tmp_path)
    assert facts["group"] == process.pid


def test_workers_do_not_share_their_random_numbers(node):
    for name in ("one", "two"):
        node.launch(name, "0").wait()
    assert node.facts("one")["random"] != node.facts("two")["random"]
    assert node.facts("one")["id"] != node.facts("two")["id"]


@pytest.mark.parametrize(("imported", "repeats"), [("ray", False), ("ray.train.torch", True)])
def test_no_template_is_left_where_its_forks_would_draw_the_same_ids(imported, repeats):
    look = f"import {imported}; from eksml.training.standby import template"
    code = f"{look}; print(template._repeats_ids())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == f"{repeats}\n", done.stderr


def test_the_launcher_ends_as_its_worker_ends(node):
    assert node.launch("bad", "7").wait() == 7
    process = node.launch("killed", "wait")
    os.kill(node.facts("killed")["pid"], signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_a_worker_dies_with_its_launcher(node):
    process = node.launch("orphan", "wait")
    worker = node.facts("orphan")["pid"]
    process.kill()
    process.wait()
    wait_until(lambda: gone(worker))
    assert node.launch("after", "3").wait() == 3


def test_another_environment_is_never_served(node):
    process = node.launch("other", "wait", env={**node.environ, "OMP_NUM_THREADS": "7"})
    facts = node.facts("other")
    process.kill()
    assert facts["pid"] == process.pid


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_another_user_is_refused(node, tmp_path):
    place = next(path for path in (node.folder / "eksml").iterdir() if path.is_socket())
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(f"\0eksml-test-{os.getpid()}")
        listener.listen()
        os.seteuid(65534)
        try:
            with pytest.raises(PermissionError):
                client.connect(str(place))
            client.connect(listener.getsockname())
        finally:
            os.seteuid(0)
        connection, _ = listener.accept()
        with connection:
            assert not launcher.of_this_user(connection)


def test_a_folder_that_others_may_enter_is_not_used(tmp_path):
    (tmp_path / "eksml").mkdir(mode=0o755)
    with pytest.raises(PermissionError, match="open to others"):
        launcher.socket_path([f"--raylet-name={tmp_path}/raylet"])


def test_the_template_ends_with_its_node(tmp_path):
    node = Node(tmp_path)
    template = node.template
    os.kill(node.raylet.pid, signal.SIGKILL)
    wait_until(lambda: gone(template))
    node.end()


@pytest.mark.parametrize(
    ("resources", "surrounding"), [({"GPU"}, set()), ({"neuron_cores"}, set()), ({"CPU"}, {"pip"})]
)
def test_accelerators_and_other_interpreters_start_as_usual(resources, surrounding):
    assert standby.runtime_env("run/1", resources, surrounding) == {}


def test_a_node_that_lacks_the_launcher_starts_python(tmp_path, monkeypatch):
    monkeypatch.setattr(standby, "_LAUNCHER", tmp_path / "elsewhere.py")
    command = standby.runtime_env("run/1", {"CPU"}, set())["py_executable"]
    script = f"exec {command} -c 'print(2)'"
    assert subprocess.run(["bash", "-c", script], capture_output=True).stdout == b"2\n"
