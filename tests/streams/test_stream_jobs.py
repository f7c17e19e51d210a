"""The recipes for streams, run as users run them."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sklearn.datasets import load_digits

import eksml
from eksml.testing import SqsServer

JOBS = Path(__file__).resolve().parent.parent.parent / "jobs"

pytestmark = [pytest.mark.long]


@pytest.fixture
def run(embedded_ray, monkeypatch, capsys):
    """Run a recipe as a script, on the Ray of the tests; gives what it printed."""

    def script(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(JOBS / name), run_name="__main__")
        return capsys.readouterr().out

    return script


def test_anomalies_are_found_in_sensor_readings(run, tmp_path):
    out = run("stream_anomaly.py", "--readings", 10_000, "--out", tmp_path)
    assert "20 were hidden" in out
    assert 18 <= int(out.splitlines()[-1].split()[0]) <= 24


def test_stolen_cards_are_caught(run, tmp_path):
    out = run("stream_fraud.py", "--payments", 12_000, "--out", tmp_path)
    assert "caught [13, 77, 142]" in out


def test_features_are_kept_for_every_view(run, tmp_path):
    out = run("stream_features.py", "--views", 5_000, "--out", tmp_path)
    assert "5000 views of 50 users" in out


def test_an_upload_gets_one_result(tmp_path):
    digits = load_digits()
    with SqsServer() as server:
        queue = server.make_queue("uploads")
        server.make_bucket("pictures", notify="uploads")
        script = subprocess.Popen(
            [
                *(sys.executable, str(JOBS / "s3_upload_inference.py"), "--queue", queue),
                *("--results", str(tmp_path), "--most", "1"),
            ],
            env={**os.environ, **server.env()},
        )
        for number in range(5):
            pixels = " ".join(map(str, digits.data[number].astype(int)))
            key = f"by hand/{number}.txt"
            server.client("s3").put_object(Bucket="pictures", Key=key, Body=pixels.encode())
        found = tmp_path / "uploads" / "requests"
        while len(list(found.glob("*/result.json"))) < 5:
            assert script.poll() is None
            time.sleep(0.2)
        eksml.get_run("uploads", storage=tmp_path).cancel()
        script.wait(timeout=60)
    results = [json.loads(file.read_text()) for file in found.glob("*/result.json")]
    told = {r["event"]["key"]: r["result"]["digit"] for r in results}
    assert told == {f"by hand/{number}.txt": digits.target[number] for number in range(5)}
