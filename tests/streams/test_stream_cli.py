"""``eksml top``: how a stream stands, from any process that sees its storage."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import eksml.streams as streams

pytestmark = pytest.mark.usefixtures("embedded_ray")

TOP = "from eksml.cli import streams; from eksml.cli.main import main; main()"


def top(*arguments):
    return subprocess.run(
        [sys.executable, "-c", TOP, "top", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )


def test_the_table_shows_each_step_and_the_last_checkpoint(tmp_path):
    events = [{"key": n % 3, "n": n} for n in range(1000)]
    graph = streams.items(events).key_by("key").reduce({"n": "count"}, name="counting")
    streams.stream(graph.to(streams.files(tmp_path / "out")), storage=tmp_path, name="mine")
    shown = top("mine", "--storage", tmp_path)
    assert "counting" in shown.stdout
    assert "1,000" in shown.stdout
    told = json.loads(top("mine", "--storage", tmp_path, "--json").stdout)
    assert told["steps"]["counting"]["events_in"] == 1000
    assert told["steps"]["counting"]["state_bytes"] > 0 == told["steps"]["counting"]["disk_bytes"]
    assert told["checkpoint"]["epoch"] == 1
