"""Two classes on one engine: what rows of ``/v1/batches`` add, and what they cost online requests.

    python benchmarks/serve_classes.py --quick            # two minutes: a tiny model, two rounds
    python benchmarks/serve_classes.py --model smollm2    # SmolLM2-135M-Instruct, five rounds

One replica's engine behind eksml's gate, without Ray. Online requests come at a fixed rate
(Poisson, streamed, 48 random words in, 32 tokens out), in turn without and with a batch that never
runs dry (A B B A …). The last line is JSON: ``ours`` is the p99 of the time to the first token with
the batch, ``peer`` without, both medians over the rounds in milliseconds; ``null`` the largest
change of the peer from one round to the next; ``offline_tokens_s`` what the batch generated beside
it, and ``offline_alone_tokens_s`` what it generates when nobody else asks. The first few requests
of each round are not counted: they end a silence, in which the batch had the engine to itself.
What such a request waits is ``first_ttft_with_ms``, without a batch ``first_ttft_without_ms``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from eksml.serving.batch_jobs.quota import RECENT_S
from eksml.testing.load import Load, run, unique_prompts
from eksml.testing.outcomes import Report
from eksml.testing.ports import free_ports

TOOLS = Path(__file__).parents[1] / "tools" / "models.py"
NAME, CONTEXT, START_S = "llm", 512, 300.0
ROW_TOKENS = 64
LEAD = 5
"""Requests before those that count."""


async def serve(folder: str, root: str, port: int) -> None:
    """One replica's engine, gate, batch API and worker on a port, until killed."""
    import uvicorn

    from eksml.llm.installed import installed_device
    from eksml.serving.batch_jobs import BatchJobs
    from eksml.serving.gate.gate import Gate
    from eksml.serving.meters import NoMeters
    from eksml.serving.profiles import settings_of
    from eksml.serving.replica import engine_of
    from eksml.serving.spec import AppSpec, ModelSpec

    engine_arguments = {"max_model_len": CONTEXT}
    model = ModelSpec(name=NAME, source=folder, device=installed_device(), engine=engine_arguments)
    spec = AppSpec(model=model, batches=root)
    settings = settings_of(spec.model)
    engine = await engine_of(spec, settings)
    jobs = BatchJobs(spec, engine.app, engine, lambda request: request.state.tenant)
    gate = Gate(jobs, spec=spec, capacity=settings.capacity, engine=engine, meters=NoMeters())
    tasks = [asyncio.create_task(work) for work in (engine.watch(), jobs.run())]
    config = uvicorn.Config(gate, port=port, log_level="warning", access_log=False)
    try:
        await uvicorn.Server(config).serve()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        engine.close()


@contextmanager
def running(model: str) -> Iterator[Any]:
    """The server, as a client of OpenAI's."""
    import openai

    [port] = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, TOOLS, model, f"{folder}/model"], check=True)
        command = [sys.executable, __file__, "--serve", f"{folder}/model", f"{folder}/jobs"]
        server = subprocess.Popen([*command, str(port)])
        try:
            client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x")
            began_s = time.monotonic()
            while not _answers(client):
                assert server.poll() is None, "the server ended"
                assert time.monotonic() - began_s < START_S, "the server does not answer"
                time.sleep(0.2)
            yield client
        finally:
            server.terminate()
            server.wait()


def _answers(client: Any) -> bool:
    import openai

    try:
        return bool(client.models.list().data)
    except openai.APIConnectionError:
        return False


def rows(count: int, seed: int) -> bytes:
    """The input of a batch."""
    prompt = unique_prompts(seed)
    bodies = (
        {"model": NAME, "prompt": prompt(n), "max_tokens": ROW_TOKENS, "ignore_eos": True}
        for n in range(count)
    )
    lines = (
        {"custom_id": f"{n}", "method": "POST", "url": "/v1/completions", "body": body}
        for n, body in enumerate(bodies)
    )
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


class Offline:
    """A batch that is larger than what can be computed of it."""

    def __init__(self, client: Any, seed: int, count: int = 5000) -> None:
        self._client = client
        file = client.files.create(file=("rows.jsonl", rows(count, seed)), purpose="batch")
        self._id = client.batches.create(
            input_file_id=file.id, endpoint="/v1/completions", completion_window="24h"
        ).id
        while self.tokens() == 0:
            time.sleep(0.2)
        self.count()

    def count(self) -> None:
        """Tokens count from now on."""
        self._began = (time.monotonic(), self.tokens())

    def tokens(self) -> int:
        """Generated so far; a second late at most."""
        batch = self._client.batches.retrieve(self._id)
        assert batch.status in ("validating", "in_progress"), batch
        return int(batch.usage.output_tokens)

    def stop(self) -> float:
        """End it; gives the tokens that it generated a second."""
        began_s, before = self._began
        rate = (self.tokens() - before) / (time.monotonic() - began_s)
        self._client.batches.cancel(self._id)
        while self._client.batches.retrieve(self._id).status == "cancelling":
            time.sleep(0.1)
        return rate


def round_of(client: Any, load: Load, offline: bool, seed: int) -> tuple[Report, float]:
    """One online load, and the offline tokens a second beside it."""
    batch = Offline(client, seed) if offline else None
    time.sleep(1.0)
    lead = run(replace(load, num_requests=LEAD))
    if batch:
        batch.count()
    report = run(load)
    assert not report.lost, report
    assert not lead.lost, lead
    return report, batch.stop() if batch else 0.0


def first_of_several(client: Any, load: Load, offline: bool, times: int) -> float:
    """Median seconds to the first token of requests that each end a silence."""
    batch, found = Offline(client, seed=3000) if offline else None, []
    for number in range(times):
        time.sleep(RECENT_S + 1.0)
        report = run(replace(load, num_requests=1, seed=number))
        assert not report.lost, report
        found.append(report.ttft_s(0.5))
    if batch:
        batch.stop()
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--model", default="tiny", choices=("tiny", "smollm2"))
    parser.add_argument("--rate", type=float, default=5.0, help="online requests per second")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        folder, root, port = given.serve
        asyncio.run(serve(folder, root, int(port)))
        return
    rounds, requests, firsts = (2, 40, 1) if given.quick else (5, 200, 5)
    measure(given.model, given.rate, rounds, requests, firsts)


def measure(model: str, rate: float, rounds: int, requests: int, firsts: int) -> None:
    """Print what each round gave, and the summary as JSON."""
    without, beside, gained = list[Report](), list[Report](), list[float]()
    with running(model) as client:
        url = str(client.base_url).rstrip("/")
        run(Load(url, NAME, 10, clients=2, seed=99))  # warm
        batch = Offline(client, seed=1000)
        time.sleep(5.0)
        alone = batch.stop()
        print(f"offline alone: {alone:.0f} tokens/s", flush=True)
        one = Load(url, NAME, 1, clients=1)
        first = [first_of_several(client, one, offline, firsts) for offline in (False, True)]
        for number in range(rounds):
            for offline in (False, True) if number % 2 == 0 else (True, False):
                load = Load(url, NAME, requests, rate=rate, seed=number)
                report, tokens_s = round_of(client, load, offline, seed=2000 + number)
                (beside if offline else without).append(report)
                gained += [tokens_s] if offline else []
                p50, p99 = (report.ttft_s(q) * 1000 for q in (0.5, 0.99))
                told = f"with {tokens_s:5.0f} offline tokens/s" if offline else "online alone"
                print(f"{told:32} TTFT p50 {p50:6.1f} ms, p99 {p99:6.1f} ms", flush=True)
    figures = summary(without, beside, gained)
    figures["offline_alone_tokens_s"] = alone
    figures["first_ttft_without_ms"], figures["first_ttft_with_ms"] = (1000 * s for s in first)
    figures["online_requests_s"] = rate
    figures["load_1min"] = os.getloadavg()[0]
    print(json.dumps(json.loads(json.dumps(figures), parse_float=_rounded)), flush=True)


def summary(without: list[Report], beside: list[Report], gained: list[float]) -> dict[str, Any]:
    """What the rounds gave."""
    figures: dict[str, Any] = {"bench": "serve_classes"}
    p99 = [report.ttft_s(0.99) * 1000 for report in without]
    figures["ours"] = statistics.median(report.ttft_s(0.99) * 1000 for report in beside)
    figures["peer"] = statistics.median(p99)
    figures["ratio"] = figures["ours"] / figures["peer"]
    figures["unit"] = "ms to the first token, p99"
    figures["null"] = max(p99) / min(p99)
    for name, reports in (("with", beside), ("without", without)):
        medians = statistics.median(report.ttft_s(0.5) * 1000 for report in reports)
        figures[f"ttft_p50_{name}_ms"] = medians
    figures["offline_tokens_s"] = statistics.median(gained)
    return figures


def _rounded(text: str) -> float:
    return round(float(text), 3)


if __name__ == "__main__":
    main()
