"""What it gains to send a prompt to the replica that knows its beginning.

    python benchmarks/serve_prefix.py              # each way of routing, a tiny model
    python benchmarks/serve_prefix.py --way prefix # one of them

Two replicas, and prompts that begin with one of 48 texts. Both caches together hold all of these,
one alone does not. ``round robin`` deals requests out, ``leastconn`` (what Serve does with HAProxy)
gives them to who has fewest, ``prefix`` is ``eksml.serving.routing``. Told are vLLM's prefix hit
rate and the time to the first token; ``unique`` is a load of prompts that share nothing, which
tells what routing by beginnings costs where there is nothing to gain.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from eksml.observe.metrics import REPLICA
from eksml.serving.routing import balance_algorithm
from eksml.testing.load import Load, run, shared_prefixes, unique_prompts
from eksml.testing.outcomes import Report
from eksml.testing.ports import free_ports

TOOLS = Path(__file__).parents[1] / "tools" / "models.py"
PREFIXES, PREFIX_WORDS, CLIENTS = 48, 100, 8
WAYS = {
    "round robin": "roundrobin",
    "leastconn": "leastconn",
    "prefix": balance_algorithm(),
}


def counters(url: str) -> tuple[float, float]:
    """Tokens that both replicas looked up in their prefix caches, and found there."""
    page: dict[str, str] = {}
    end_s = time.monotonic() + 30
    with ThreadPoolExecutor(8) as asking:
        while len(page) < 2:
            # Several at once, so that no replica is free all the time
            for text in asking.map(_metrics, [url] * 8):
                [name] = [each for each in text.splitlines() if each.startswith(REPLICA.name)]
                page[name] = text
            assert time.monotonic() < end_s, "one of the replicas never answered"
    return _sum(page, "vllm:prefix_cache_queries_total"), _sum(page, "vllm:prefix_cache_hits_total")


def _metrics(url: str) -> str:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/metrics") as response:
        text: str = response.read().decode()
    return text


def _sum(pages: dict[str, str], name: str) -> float:
    lines = [line for text in pages.values() for line in text.splitlines()]
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def measure(model: str, way: str, blocks: int, requests: int, rounds: int) -> None:
    from eksml.serving import ModelSpec, environment
    from eksml.serving.verb import serve

    environment.HAPROXY["RAY_SERVE_HAPROXY_BALANCE_ALGORITHM"] = WAYS[way]
    engine = {"max_num_seqs": CLIENTS, "num_gpu_blocks_override": blocks, "block_size": 32}
    spec = ModelSpec(name="m", source=model, replicas=2, engine=engine, queue=256)
    [port] = free_ports(1)
    with serve(spec, port=port, timeout_s=300) as endpoint:
        for _ in range(rounds):
            shared(endpoint.url, way, requests)
            seed = random.randrange(10**6)
            prompt = unique_prompts(seed, PREFIX_WORDS)
            tell(way, "unique", seed, asked(endpoint.url, requests, prompt))


def shared(url: str, way: str, requests: int) -> None:
    """One round of prompts with common beginnings, after the caches were filled with these."""
    seed = random.randrange(10**6)
    prompt = shared_prefixes(seed, PREFIXES, PREFIX_WORDS)
    asked(url, 3 * PREFIXES, lambda number: prompt(requests + number))
    before = counters(url)
    report = asked(url, requests, prompt)
    looked, found = (now - then for now, then in zip(counters(url), before, strict=True))
    tell(way, "shared", seed, report, hit_rate=round(found / looked, 3))


def asked(url: str, requests: int, prompt: Callable[[int], str]) -> Report:
    """What became of so many requests of eight tokens."""
    report = run(Load(url, "m", requests, clients=CLIENTS, max_tokens=8, prompt=prompt))
    assert not report.lost, str(report)
    return report


def tell(way: str, load: str, seed: int, report: Report, **more: float) -> None:
    """A line of JSON."""
    figures = {
        "way": way,
        "load": load,
        **more,
        "ttft_p50_ms": round(report.ttft_s(0.5) * 1000, 1),
        "ttft_p99_ms": round(report.ttft_s(0.99) * 1000, 1),
        "requests_s": round(report.requests_per_s, 1),
        "seed": seed,
        "load_1min": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(figures), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--way", choices=list(WAYS))
    parser.add_argument("--model", default="tiny", help="tiny, smollm2, or a folder")
    parser.add_argument("--blocks", type=int, default=450, help="32 tokens each, of a replica")
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = given.model
        if model in ("tiny", "smollm2"):
            where = Path(folder, model)
            subprocess.run([sys.executable, str(TOOLS), model, str(where)], check=True)
            model = str(where)
        if given.way:
            measure(model, given.way, given.blocks, given.requests, given.rounds)
            return
        for way in WAYS:
            sizes = [
                f"--{name}={getattr(given, name)}" for name in ("blocks", "requests", "rounds")
            ]
            command = [sys.executable, __file__, "--way", way, "--model", model, *sizes]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
