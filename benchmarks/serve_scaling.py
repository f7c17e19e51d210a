"""How fast the number of replicas follows the load: eksml's policy beside Serve's defaults.

    python benchmarks/serve_scaling.py                  # each policy, each proxy
    python benchmarks/serve_scaling.py --ours --haproxy # one of the four

The replicas hold no model: each request takes a second, a replica starts in three and should have
four requests. First 16 clients come at once; told is when the decision fell, when all was in place,
and how often it was changed while they stayed. Then they go, and the deployment goes to no replica
at all; told is what becomes of the first request after that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from eksml.serving.scaling import Signals, Targets, autoscaling_config
from eksml.testing.load import Load, driving, run
from eksml.testing.ports import free_ports

REQUEST_S, START_S, TARGET, CLIENTS, MOST = 1.0, 3.0, 4, 16, 4
STEADY = 20
"""Requests of each client: they stay for as many seconds."""


class Sleeper:
    """A replica whose requests take a second."""

    def __init__(self) -> None:
        time.sleep(START_S)
        self._signals = Signals()

    async def __serve_build_asgi_app__(self) -> Any:
        return answer

    def record_autoscaling_stats(self) -> dict[str, float]:
        return self._signals.numbers()


async def answer(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await asyncio.sleep(REQUEST_S)
    answer = {"usage": {"completion_tokens": json.loads(body)["max_tokens"]}}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


class Watch:
    """The wanted and the running number of replicas, as they change."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.wanted: list[tuple[float, int]] = []
        self.running: list[tuple[float, int]] = []
        self.there: list[tuple[float, int]] = []
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        from ray import serve

        while True:
            [deployment] = serve.status().applications["llm"].deployments.values()
            now = time.monotonic() - self.began
            states = deployment.replica_states
            wanted = sum(number for state, number in states.items() if state != "STOPPING")
            running = states.get("RUNNING", 0)
            there = sum(states.values())  # those that drain included
            for series, number in (
                (self.wanted, wanted),
                (self.running, running),
                (self.there, there),
            ):
                if not series or series[-1][1] != number:
                    series.append((now, number))
            time.sleep(0.05)

    def wait_for_none(self, seconds: float) -> float:
        """When none was left, from now; infinite if they were not gone by then."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if self.there and self.there[-1][1] == 0:
                return time.monotonic() - began
            time.sleep(0.05)
        return float("inf")


def deploy(ours: bool) -> str:
    """One replica that may become none or four; returns the URL."""
    from ray import serve

    [port] = free_ports(1)
    if ours:
        scaling = autoscaling_config(0, MOST, Targets(TARGET), 0.0, 15.0)
    else:
        scaling = {"min_replicas": 0, "max_replicas": MOST, "target_ongoing_requests": TARGET}
    deployment = serve.deployment(serve.ingress()(Sleeper)).options(
        autoscaling_config={**scaling, "initial_replicas": 1},
        ray_actor_options={"num_cpus": 0.1},
        max_ongoing_requests=100,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(deployment.bind(), name="llm")
    return f"http://127.0.0.1:{port}/v1"


def measure(ours: bool) -> None:
    import ray

    warnings.simplefilter("ignore", DeprecationWarning)
    ray.init(
        address="local",
        num_cpus=8,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
    )
    url = deploy(ours)
    time.sleep(3)  # the proxies learn of it
    watch = Watch()
    time.sleep(2)
    begin = time.monotonic() - watch.began
    with driving(Load(url, "llm", CLIENTS * STEADY, clients=CLIENTS, stream=0)) as report:
        pass
    end = time.monotonic() - watch.began
    during = [(at - begin, number) for at, number in watch.wanted if begin < at < end]
    decided = next((at for at, number in during if number > 1), float("inf"))
    running = [at - begin for at, number in watch.running if number == MOST]
    print(
        f"  decided after {decided:.2f} s, {MOST} replicas after {min(running, default=-1):.1f} s,"
    )
    print(f"  wanted while {CLIENTS} clients stay: {[(round(at, 2), n) for at, n in during]}")
    print(f"  {str(report()).splitlines()[0]}")
    print(f"  none left {watch.wait_for_none(120 if ours else 800):.1f} s after they went")
    first = run(Load(url, "llm", 1, clients=1, stream=0))
    [sent] = first.sent
    print(f"  the first request after that: {sent.outcome} in {sent.e2e_s:.1f} s {sent.detail}")


def haproxy() -> dict[str, str]:
    """HAProxy's own files and ports, so that two of them may run on a machine."""
    folder, ports = Path(tempfile.mkdtemp(prefix="eksml-haproxy-")), free_ports(2)
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports[0]),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports[1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ours", action="store_true")
    parser.add_argument("--serves", action="store_true")
    parser.add_argument("--haproxy", action="store_true")
    given = parser.parse_args()
    if given.ours or given.serves:
        # Serve reads it once, when it is imported
        os.environ.update(haproxy() if given.haproxy else {})
        measure(given.ours)
        return
    for policy in ("--ours", "--serves"):
        for proxy in ([], ["--haproxy"]):
            print(f"{policy[2:]}, {'HAProxy' if proxy else 'Serve'}'s proxy", flush=True)
            subprocess.run([sys.executable, __file__, policy, *proxy], check=True)


if __name__ == "__main__":
    main()
