"""Write ``eksml/cluster/catalogue.json`` from EC2's own DescribeInstanceTypes.

``python tools/catalogue.py`` asks EC2 in us-east-1 with the credentials that boto3 finds;
``--endpoint-url http://127.0.0.1:5000`` asks another server that speaks EC2's API, such as moto's.
What is in the file but not in the answer is kept, since no region has every type. The output is
the same for the same answers, one instance a line, so that a diff shows what EC2 changed.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]

TARGET = Path(__file__).resolve().parent.parent / "eksml" / "cluster" / "catalogue.json"

ACCELERATED = (
    *("g4dn", "g5", "g6", "g6e", "g7e", "gr6"),
    *("p4d", "p4de", "p5", "p5e", "p5en", "p6-b200", "p6-b300"),
    *("inf2", "trn1", "trn1n", "trn2"),
)
GENERAL = (
    *("c6i", "c7a", "c7g", "c7i", "c8g"),
    *("m6i", "m7a", "m7g", "m7i", "m8g"),
    *("r6i", "r7a", "r7g", "r7i", "r8g"),
    *("i4i", "t3"),
)
SMALLEST_MIB = 4096
"""Below it nothing is left for Ray beside the kubelet and the daemonsets."""

RAY_GPU_NAMES = {
    "RTX PRO Server 6000": "RTX-PRO-6000",
}
"""EC2's name of a GPU → Ray's (``ray.util.accelerators``), where they differ."""

LOGICAL_CORES = {2: 1, 3: 2}
"""NeuronCore version → physical cores in one logical core, by default. Source: AWS Neuron,
«Logical NeuronCore configuration»: Trainium2 (v3) has LNC 2, so 64 ranks on a trn2.48xlarge."""

OVERRIDES: Mapping[tuple[str, str], tuple[Any, str]] = {
    ("trn2.3xlarge", "neuron.memory_mib"): (
        98304,
        "EC2 states the 512 GiB of another device; a Trainium2 has 96 GiB (AWS Neuron, trn2-arch).",
    ),
    ("trn2.48xlarge", "neuron.memory_mib"): (
        98304,
        "EC2 states the 512 GiB of another device; a Trainium2 has 96 GiB (AWS Neuron, trn2-arch).",
    ),
}
"""(type, field) → (value, reason): where EC2's own answer is known to be wrong."""


def row_of(info: Mapping[str, Any]) -> Row:
    """One type of the answer, as a line of the catalogue; before overrides."""
    network = info["NetworkInfo"]
    row: Row = {
        "vcpus": info["VCpuInfo"]["DefaultVCpus"],
        "memory_mib": info["MemoryInfo"]["SizeInMiB"],
        "arch": "arm64" if "arm64" in info["ProcessorInfo"]["SupportedArchitectures"] else "amd64",
        "gpu": _gpu(info),
        "neuron": _neuron(info),
        "efa": network.get("EfaInfo", {}).get("MaximumEfaInterfaces", 0),
        "nvme_gb": _nvme_gb(info),
        "network_gbps": _network_gbps(network),
        "max_pods": _max_pods(network),
        "usage_classes": sorted(info["SupportedUsageClasses"]),
    }
    return {field: value for field, value in row.items() if value}


def corrected(name: str, row: Row) -> Row:
    """The row with what :data:`OVERRIDES` says about it."""
    row = json.loads(json.dumps(row))
    for (instance, field), (value, _) in OVERRIDES.items():
        if instance == name:
            *parents, last = field.split(".")
            part = row
            for parent in parents:
                part = part[parent]
            part[last] = value
    return row


def _gpu(info: Mapping[str, Any]) -> Row | None:
    gpus = info.get("GpuInfo", {}).get("Gpus", [])
    if not gpus:
        return None
    (gpu,) = gpus  # EC2 mixes no kinds; if it ever does, this has to be thought about
    return {
        "name": RAY_GPU_NAMES.get(gpu["Name"], gpu["Name"]),
        "count": gpu["Count"],
        "memory_mib": gpu["MemoryInfo"]["SizeInMiB"],
    }


def _neuron(info: Mapping[str, Any]) -> Row | None:
    devices = info.get("NeuronInfo", {}).get("NeuronDevices", [])
    if not devices:
        return None
    (device,) = devices
    physical = device["Count"] * device["CoreInfo"]["Count"]
    return {
        "name": device["Name"],
        "devices": device["Count"],
        "cores": physical // LOGICAL_CORES[device["CoreInfo"]["Version"]],
        "physical_cores": physical,
        "memory_mib": device["MemoryInfo"]["SizeInMiB"],
    }


def _nvme_gb(info: Mapping[str, Any]) -> int:
    storage = info.get("InstanceStorageInfo", {})
    supported = storage.get("NvmeSupport", "unsupported") != "unsupported"
    return int(storage["TotalSizeInGB"]) if supported else 0


def _network_gbps(network: Mapping[str, Any]) -> float:
    """The whole instance's: the cards' own numbers add up wrongly for g6e, p6-b200 and trn2."""
    stated = re.fullmatch(r"(?:(\d+)x )?([\d.]+) Gigabit", network["NetworkPerformance"])
    if stated:
        return int(stated[1] or 1) * float(stated[2])
    return sum(float(card["BaselineBandwidthInGbps"]) for card in network["NetworkCards"])


def _max_pods(network: Mapping[str, Any]) -> int:
    """EKS's formula: interfaces of the default card × (addresses − its own) + two on the host."""
    cards = {card["NetworkCardIndex"]: card for card in network["NetworkCards"]}
    interfaces = cards[network["DefaultNetworkCardIndex"]]["MaximumNetworkInterfaces"]
    return int(interfaces * (network["Ipv4AddressesPerInterface"] - 1) + 2)


def described(endpoint_url: str | None, region: str) -> Iterator[Mapping[str, Any]]:
    """Every type of the chosen families that the region has."""
    import boto3

    client = boto3.client("ec2", region_name=region, endpoint_url=endpoint_url)
    families = [f"{family}.*" for family in (*ACCELERATED, *GENERAL)]
    pages = client.get_paginator("describe_instance_types").paginate(
        Filters=[{"Name": "instance-type", "Values": families}]
    )
    for page in pages:
        for info in page["InstanceTypes"]:
            if info["MemoryInfo"]["SizeInMiB"] >= SMALLEST_MIB:
                yield info


def catalogue(infos: Iterable[Mapping[str, Any]]) -> dict[str, Row]:
    """The catalogue's rows by name, sorted by family and size."""
    rows = {info["InstanceType"]: corrected(info["InstanceType"], row_of(info)) for info in infos}
    return dict(sorted(rows.items(), key=_order))


def _order(item: tuple[str, Row]) -> tuple[str, int, int, str]:
    name, row = item
    return name.partition(".")[0], row["vcpus"], row["memory_mib"], name


def written(rows: Mapping[str, Row]) -> str:
    """The file's text: one instance a line."""
    lines = [f"    {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items()]
    source = json.dumps("EC2 DescribeInstanceTypes; see tools/catalogue.py")
    return '{\n  "source": ' + source + ',\n  "instances": {\n' + ",\n".join(lines) + "\n  }\n}\n"


def main() -> None:
    """Write the catalogue anew."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--endpoint-url", help="another server than EC2's, such as moto's")
    options.add_argument("--region", default="us-east-1")
    given = options.parse_args()
    kept = json.loads(TARGET.read_text())["instances"] if TARGET.exists() else {}
    found = catalogue(described(given.endpoint_url, given.region))
    TARGET.write_text(written(dict(sorted({**kept, **found}.items(), key=_order))))
    print(f"{len(found)} instance types described, {len({**kept, **found})} written to {TARGET}")


if __name__ == "__main__":
    main()
