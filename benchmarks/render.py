"""Specification → checked manifest beside a template, and how preflight and fit grow.

    python benchmarks/render.py --quick      # under 50 s
    python benchmarks/render.py              # more repetitions

The peer is what users do today: a blueprint's YAML with placeholders, filled in with
``string.Template`` and read with ``yaml.safe_load``. It yields the very same manifest, and checks
nothing of it. ``peer_libyaml`` is the same with PyYAML's C loader. ``ratio``: peer to ours, higher
is better for us. One JSON line per figure; the last is the rendering.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import string
import time
from collections.abc import Callable
from typing import Any

import yaml

from eksml import Cluster, cpu, gpu
from eksml.cluster import Demand, Head, preflight
from eksml.cluster.fit import fit
from eksml.cluster.plan import plan

ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ray:2.60.0-py311-gpu"
FIELDS: dict[str, Any] = {
    "name": "train",
    "backend": "eks",
    "namespace": "team",
    "image": ECR,
    "head": {"instance": "m7i.2xlarge"},
    "groups": [
        {
            "name": "train",
            "instance": "p5.48xlarge",
            "nodes": 4,
            "efa": True,
            "zones": ["us-east-1a"],
            "cpus": None,
            "gpus": None,
        },
        {
            "name": "infer",
            "instance": "g6e.12xlarge",
            "nodes": [0, 16],
            "market": "spot",
            "cpus": None,
            "gpus": None,
        },
    ],
}
TYPES = ("m7i.4xlarge", "m7i.8xlarge", "c7i.8xlarge", "g6.xlarge", "g6.12xlarge", "g6e.12xlarge")
SIZES = ((10, 100), (100, 1_000), (1_000, 10_000))


def seconds(call: Callable[[], object], repeat: int) -> float:
    """Median of ``repeat`` calls."""
    taken = []
    for _ in range(repeat):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def many_groups(count: int) -> Cluster:
    """Groups of 20 nodes, of six instance types in turn: room for twice as many pods as asked."""
    groups = []
    for index in range(count):
        kind = TYPES[index % len(TYPES)]
        make = gpu if kind.startswith("g") else cpu
        groups.append(make(kind, name=f"g{index}", nodes=(0, 20)))
    return Cluster(name="large", backend="eks", head=Head(instance="m7i.8xlarge"), groups=groups)


def pods(count: int, kinds: int) -> Demand:
    """Bundles of up to 8 CPUs, every tenth with a GPU; of so many different sizes."""
    chance = random.Random(0)
    sizes: list[dict[str, float]] = []
    for index in range(kinds):
        size = {"CPU": round(chance.uniform(0.1, 8), 3)}
        sizes.append(size | ({"GPU": 1.0, "CPU": 1.0 + index / 10_000} if index % 10 == 9 else {}))
    return Demand(tuple(sizes[index % kinds] for index in range(count)), what="pods")


def growth(repeat: int) -> None:
    """One line for each size: equal pods, ten kinds of them, and every pod of its own kind."""
    for groups, count in SIZES:
        spec = many_groups(groups)
        for kinds in (1, 10, count):
            demand = pods(count, kinds)
            taken_s = seconds(lambda d=demand, s=spec: preflight(d, s), repeat)
            show(bench="preflight", groups=groups, pods=count, kinds=kinds, ours=taken_s, unit="s")
    for groups, _ in SIZES:
        spec = many_groups(groups)
        manifest = spec.manifest()
        taken_s = seconds(lambda s=spec, m=manifest: fit(s, m), repeat)
        show(bench="fit", groups=groups, nodes=20 * groups, ours=taken_s, unit="s")


def rendering(repeat: int) -> None:
    """The figure: ours and the peer in turn, so that a busy machine hits both."""
    spec = Cluster(**FIELDS)
    manifest = spec.manifest()
    text = yaml.safe_dump(manifest, sort_keys=False).replace("$", "$$").replace(ECR, "$image")
    template = string.Template(text.replace("name: train\n", "name: $name\n"))

    def peer(loader: Any = yaml.SafeLoader) -> dict[str, Any]:
        filled = template.substitute(image=ECR, name="train")
        made: dict[str, Any] = yaml.load(filled, Loader=loader)
        return made

    assert peer() == manifest == peer(yaml.CSafeLoader)
    sides: dict[str, Callable[[], object]] = {
        "ours": spec.manifest,
        "peer": peer,
        "peer_libyaml": lambda: peer(yaml.CSafeLoader),
        "ours_with_validation": lambda: Cluster(**FIELDS).manifest(),
        "plan": lambda: plan(spec),
    }
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeat):
        for name, call in sides.items():
            taken[name].append(seconds(call, 5) * 1e3)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    ours, theirs = medians.pop("ours"), medians.pop("peer")
    show(
        bench="render",
        ours=ours,
        peer=theirs,
        ratio=theirs / ours,
        unit="ms",
        **medians,
        lines=text.count("\n"),
    )


def show(**figures: Any) -> None:
    """One JSON line, its figures to four places."""
    written = json.dumps(figures)
    print(json.dumps(json.loads(written, parse_float=lambda x: round(float(x), 4))), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, under 50 s")
    options = parser.parse_args()
    growth(1 if options.quick else 5)
    rendering(10 if options.quick else 60)


if __name__ == "__main__":
    main()
