"""What becomes of a model that is asked for five times what it can do.

    python benchmarks/serve_overload.py                     # 2 minutes, a tiny model
    python benchmarks/serve_overload.py --times 10 --seconds 30

First the peak is measured, with as many clients as there are slots; then requests come at five
times that rate, whatever becomes of them. Told are the answers per second beside the peak, the
times of those that were let in and of those that were refused, and what the replica's processes
weigh before and after.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from eksml.testing.load import Load, run
from eksml.testing.outcomes import Outcome
from eksml.testing.ports import free_ports

TOOLS = Path(__file__).parents[1] / "tools" / "models.py"
SLOTS, TOKENS = 16, 200


def weight_mb() -> dict[str, int]:
    """Resident memory by process: the replica and its engine's core, whose size must not depend on
    what was asked, and the engine's worker, whose key-value cache becomes resident as it fills."""
    found = {"ray::ServeReplica": 0, "VLLM::EngineCore": 0, "VLLM::Worker": 0}
    for process in psutil.Process().children(recursive=True):
        for name in found:
            if " ".join(process.cmdline()).startswith(name):
                found[name] += process.memory_info().rss // 10**6
    return found


def measure(model: str, times: float, seconds: float) -> None:
    from eksml.serving import ModelSpec
    from eksml.serving.verb import serve

    spec = ModelSpec(name="m", source=model, engine={"max_num_seqs": SLOTS})
    [port] = free_ports(1)
    seed = random.randrange(10**6)
    with serve(spec, port=port, timeout_s=300) as endpoint:
        url = endpoint.url
        run(Load(url, "m", 4 * SLOTS, clients=SLOTS, max_tokens=TOKENS))
        peak = run(Load(url, "m", 12 * SLOTS, clients=SLOTS, max_tokens=TOKENS, seed=seed))
        rate, before_mb = times * peak.requests_per_s, weight_mb()
        count = int(seconds * rate)
        report = run(Load(url, "m", count, rate=rate, max_tokens=TOKENS, seed=seed))
        after_mb = weight_mb()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\npeak: {peak}")
    print(f"{times:g} times that, {rate:.0f}/s: {report}")
    print(
        f"goodput {report.requests_per_s / peak.requests_per_s:.3f} of the peak, refused in p50 "
        f"{report.e2e_s(0.5, Outcome.REFUSED) * 1000:.0f} ms, p99 "
        f"{report.e2e_s(0.99, Outcome.REFUSED) * 1000:.0f} ms"
    )
    for name, before in before_mb.items():
        print(f"{name}: {before} MB before, {after_mb[name]} MB after")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=120.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(folder, "tiny"))
        subprocess.run([sys.executable, str(TOOLS), "tiny", model], check=True)
        measure(model, given.times, given.seconds)


if __name__ == "__main__":
    main()
