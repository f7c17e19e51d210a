"""``eksml.serve`` beside vLLM's own server and ``ray.serve.llm``: the same model, flags and load.

    python benchmarks/serve.py --quick            # under 50 s: 8 clients, vLLM's own server alone
    python benchmarks/serve.py                    # all three, with a tiny model
    python benchmarks/serve.py --model smollm2    # with SmolLM2-135M-Instruct

All servers run side by side and are asked in turn (A B C C B A …), streaming: closed loops of 1, 8
and 32 clients, and an open loop at 70 % of what vLLM's own server gave with 32. Prompts of 48
random words, 32 tokens each. Prints one JSON line a load and peer; ``ratio``: requests per second,
higher is better for us; times in milliseconds, medians over the rounds; ``null``: the largest
change of the peer from one round to the next.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import serve_peers as peers

from eksml.testing.load import Load, run
from eksml.testing.outcomes import Report
from eksml.testing.ports import free_ports

TOOLS = Path(__file__).parents[1] / "tools" / "models.py"
START_S = 300.0
CONTEXT = 512
OPEN = "open at 70 %"
FIGURES = {
    "ttft_p50_ms": lambda report: report.ttft_s(0.5) * 1000,
    "ttft_p99_ms": lambda report: report.ttft_s(0.99) * 1000,
    "itl_p50_ms": lambda report: report.itl_s(0.5) * 1000,
    "itl_p99_ms": lambda report: report.itl_s(0.99) * 1000,
}
Rounds = dict[tuple[str, str], list[Report]]
"""By load and server."""


@contextmanager
def running(sides: tuple[str, ...], model: str) -> Iterator[dict[str, str]]:
    """All servers at once; gives their addresses when they all answer."""
    ports = dict(zip(sides, free_ports(len(sides)), strict=True))
    servers = {side: peers.start(side, model, port, CONTEXT) for side, port in ports.items()}
    try:
        urls = {side: f"http://127.0.0.1:{port}/v1" for side, port in ports.items()}
        for side, url in urls.items():
            began_s = time.monotonic()
            while not _answers(url):
                assert servers[side].poll() is None, f"{side} ended"
                assert time.monotonic() - began_s < START_S, f"{side} does not answer"
                time.sleep(0.2)
        yield urls
    finally:
        for server in servers.values():
            server.stdin.close()  # type: ignore[union-attr]
        for server in servers.values():
            server.wait(timeout=90)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/models", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def measure(urls: Mapping[str, str], clients: list[int], rounds: int, seconds: float) -> Rounds:
    """Ask all servers in turn; each load takes about ``seconds`` a server."""
    found: Rounds = defaultdict(list)
    rates = {}
    for side, url in urls.items():  # what they can do, and caches and pools filled
        for count in clients:
            rates[side, count] = ask(url, 4 * count, clients=count, seed=0).requests_per_s
    for index in range(rounds):
        order = list(urls.items()) if index % 2 == 0 else list(urls.items())[::-1]
        for count, (side, url) in itertools.product(clients, order):
            requests = max(2 * count, int(rates[side, count] * seconds))
            report = ask(url, requests, clients=count, seed=index + 1)
            found[f"{count} clients", side].append(report)
    return found


def measure_open(
    urls: Mapping[str, str], rate: float, rounds: int, seconds: float, found: Rounds
) -> None:
    """The same at a rate that does not wait for answers."""
    for index in range(rounds):
        order = list(urls.items()) if index % 2 == 0 else list(urls.items())[::-1]
        for side, url in order:
            report = ask(url, int(rate * seconds), rate=rate, seed=100 + index)
            found[OPEN, side].append(report)


def ask(url: str, requests: int, **how: Any) -> Report:
    """One load; nothing may be lost."""
    report = run(Load(url, "m", requests, timeout_s=120, **how))
    assert not report.lost, report
    return report


def figure(model: str, load: str, peer: str, found: Rounds) -> dict[str, Any]:
    """Ours beside one peer."""
    rates = {
        side: [report.requests_per_s for report in found[load, side]] for side in ("ours", peer)
    }
    ours, theirs = (statistics.median(rates[side]) for side in ("ours", peer))
    line: dict[str, Any] = {"bench": f"serve {model}, {load}, beside {peer}"}
    line |= {"ours": ours, "peer": theirs, "ratio": ours / theirs, "unit": "requests/s"}
    for name, of in FIGURES.items():
        for side, label in (("ours", "ours"), (peer, "peer")):
            line[f"{label}_{name}"] = statistics.median(of(each) for each in found[load, side])
    steps = [max(a, b) / min(a, b) - 1 for a, b in itertools.pairwise(rates[peer])]
    return {
        **line,
        "ours_range": _span(rates["ours"]),
        "peer_range": _span(rates[peer]),
        **({"null": max(steps)} if steps else {}),
    }


def _span(values: list[float]) -> list[float]:
    return [min(values), max(values)]


def show(line: Mapping[str, Any]) -> None:
    """One JSON line, its figures to three places."""
    rounded = json.loads(json.dumps(line), parse_float=lambda text: round(float(text), 3))
    print(json.dumps(rounded), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="8 clients, without ray.serve.llm")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each load and server")
    parser.add_argument("--model", choices=["tiny", "smollm2"], default="tiny")
    parser.add_argument("--sides", nargs="+", default=["bare", "ours", "ray"])
    options = parser.parse_args()
    clients = [8] if options.quick else [1, 8, 32]
    rounds, seconds = (2, 3.0) if options.quick else (options.rounds, options.seconds)
    sides = ("bare", "ours") if options.quick else tuple(options.sides)
    with tempfile.TemporaryDirectory(prefix="eksml-bench-") as folder:
        model = str(Path(folder) / options.model)
        import runpy

        runpy.run_path(str(TOOLS))[options.model](Path(model))
        with running(sides, model) as urls:
            found = measure(urls, clients, rounds, seconds)
            if not options.quick:
                peak = statistics.median(
                    each.requests_per_s for each in found["32 clients", "bare"]
                )
                measure_open(urls, 0.7 * peak, rounds, seconds, found)
    loads = list(dict.fromkeys(load for load, _ in found))
    for peer, load in itertools.product(sides[::-1], loads):
        if peer != "ours":
            show(figure(options.model, load, peer, found))


if __name__ == "__main__":
    sys.exit(main())
