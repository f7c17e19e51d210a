"""What it gains to send a prompt to the replica that knows its beginning.

    python benchmarks/serve_prefix.py              # each way of routing, a tiny model
    python benchmarks/serve_prefix.py --way hash   # one of them

Two replicas, and prompts that begin with one of 48 texts. Both caches together hold all of these,
one alone does not. ``round robin`` deals requests out, ``leastconn`` (what Serve does with HAProxy)
gives them to who has fewest, ``hash`` goes by the first bytes of the body, but gives no replica
more than a quarter over its share. Told are vLLM's prefix hit rate and the time to the first token.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from eksml.testing.load import Load, run, shared_prefixes
from eksml.testing.ports import free_ports

TOOLS = Path(__file__).parents[1] / "tools" / "models.py"
TOKENS, PREFIXES, PREFIX_WORDS, CLIENTS = 8, 48, 100, 8
WAYS = {
    "round robin": "roundrobin",
    "leastconn": "leastconn",
    # Several lines, since Serve writes into HAProxy's defaults what it is given here
    "hash": "hash req.body,bytes(0,256)\n    hash-type consistent\n    hash-balance-factor 125"
    "\n    option http-buffer-request",
}


def counters(url: str) -> tuple[float, float]:
    """Tokens that both replicas looked up in their prefix caches, and found there."""
    page: dict[str, str] = {}
    end_s = time.monotonic() + 30
    with ThreadPoolExecutor(8) as asking:
        while len(page) < 2:
            # Several at once, so that no replica is free all the time; they are told apart by when
            # they started
            for text in asking.map(_metrics, [url] * 8):
                [began] = [each for each in text.splitlines() if each.startswith("process_start_t")]
                page[began] = text
            assert time.monotonic() < end_s, "one of the replicas never answered"
    return _sum(page, "vllm:prefix_cache_queries_total"), _sum(page, "vllm:prefix_cache_hits_total")


def _metrics(url: str) -> str:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/metrics") as response:
        text: str = response.read().decode()
    return text


def _sum(pages: dict[str, str], name: str) -> float:
    lines = [line for text in pages.values() for line in text.splitlines()]
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def measure(model: str, way: str, blocks: int, requests: int) -> None:
    from eksml.serving import ModelSpec, environment
    from eksml.serving.verb import serve

    environment.HAPROXY["RAY_SERVE_HAPROXY_BALANCE_ALGORITHM"] = WAYS[way]
    engine = {"max_num_seqs": CLIENTS, "num_gpu_blocks_override": blocks, "block_size": 32}
    spec = ModelSpec(name="m", source=model, replicas=2, engine=engine, queue=256)
    [port] = free_ports(1)
    seed = random.randrange(10**6)
    prompt = shared_prefixes(seed, PREFIXES, PREFIX_WORDS)
    with serve(spec, port=port, timeout_s=300) as endpoint:
        url = endpoint.url
        load = {"clients": CLIENTS, "max_tokens": TOKENS, "prompt": prompt, "seed": seed}
        run(Load(url, "m", 3 * PREFIXES, **load))  # caches are filled
        before = counters(url)
        report = run(Load(url, "m", requests, **load))
        now = counters(url)
    looked, found = now[0] - before[0], now[1] - before[1]
    assert not report.lost, str(report)
    print(
        f"{way:12} seed {seed}, load {os.getloadavg()[0]:.1f}: hit rate {found / looked:.3f}, "
        f"TTFT p50 {report.ttft_s(0.5) * 1000:.1f} ms, p99 {report.ttft_s(0.99) * 1000:.1f} ms, "
        f"{report.requests_per_s:.1f} requests/s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--way", choices=list(WAYS))
    parser.add_argument("--model", default="tiny", help="tiny, smollm2, or a folder")
    parser.add_argument("--blocks", type=int, default=450, help="32 tokens each, of a replica")
    parser.add_argument("--requests", type=int, default=600)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = given.model
        if model in ("tiny", "smollm2"):
            where = Path(folder, model)
            subprocess.run([sys.executable, str(TOOLS), model, str(where)], check=True)
            model = str(where)
        if given.way:
            measure(model, given.way, given.blocks, given.requests)
            return
        for way in WAYS:
            sizes = [f"--blocks={given.blocks}", f"--requests={given.requests}"]
            command = [sys.executable, __file__, "--way", way, "--model", model, *sizes]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
