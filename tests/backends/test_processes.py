"""A node is killed whole, and nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from census import in_sessions, wait_until  # type: ignore[import-not-found]

from eksml.backends.processes import MARK, Process, kill_nodes, members

FAMILY = """
import os, subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
subprocess.Popen(sleep)
subprocess.Popen(sleep, process_group=0)
subprocess.Popen(sleep, start_new_session=True)
subprocess.Popen(sleep, env={})
print("ready", flush=True)
time.sleep(600)
"""


def family(mark: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", FAMILY],
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_all_of_a_node_dies_even_after_its_leader() -> None:
    process = family("mark-1")
    leader = Process.of(process.pid)
    assert leader is not None
    assert len(members(leader, "mark-1")) == 5, "groups, sessions and environments of their own"
    process.kill()
    process.wait()
    assert not leader.alive()
    assert len(members(leader, "mark-1")) == 4
    kill_nodes([(leader, "mark-1")])
    assert members(leader, "mark-1") == []


def test_a_stranger_with_a_recycled_pid_is_spared() -> None:
    process = family("mark-2")
    stranger = Process(process.pid, "born at another time")
    assert not stranger.alive()
    assert stranger.recycled()
    kill_nodes([(stranger, "another mark")])
    assert process.poll() is None
    assert len(in_sessions([process.pid])) == 4
    known = Process.of(process.pid)
    assert known is not None
    kill_nodes([(known, "mark-2")])
    process.wait()


def test_a_zombie_is_not_alive() -> None:
    process = subprocess.Popen(["sleep", "0.3"])
    child = Process.of(process.pid)
    assert child is not None
    wait_until(lambda: not child.alive(), "the end, before anybody waits for it", 10)
    assert not child.recycled()
    process.wait()
    assert not child.alive()


def test_this_process_is_alive_and_stays_the_same() -> None:
    first = Process.this()
    time.sleep(0.01)
    assert first == Process.this() == Process.of(os.getpid())
    assert first.alive()
