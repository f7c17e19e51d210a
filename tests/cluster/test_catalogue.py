"""The instance catalogue: EC2's own numbers, Ray's own names.

The authority is DescribeInstanceTypes, asked through moto's server, which carries EC2's answers.
"""

from __future__ import annotations

import importlib.util
import json
import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from eksml.cluster.catalogue import NEURON_ACCELERATOR, Instance, instance, instances
from eksml.errors import InvalidSpec

TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "catalogue.py"))
NVIDIA = {"g4dn", "g5", "g6", "g6e", "gr6", "p4d", "p4de", "p5", "p5e", "p5en"}
BLACKWELL = {"p6-b200", "p6-b300"}
NEURON = {"trn1", "trn1n", "trn2", "inf2"}
MIB, GB = 1024**2, 1000**3


@pytest.fixture(scope="module")
def described() -> dict[str, Mapping[str, Any]]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "of-no-one")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "of-no-one")
        infos = list(TOOL["described"](f"http://{host}:{port}", "us-east-1"))
    server.stop()
    return {info["InstanceType"]: info for info in infos}


def test_every_accelerator_family_is_there() -> None:
    families = {known.family for known in instances().values()}
    assert families >= NVIDIA | BLACKWELL | NEURON


def test_the_file_is_what_the_tool_makes_of_ec2s_answer(
    described: dict[str, Mapping[str, Any]],
) -> None:
    assert TOOL["TARGET"].read_text() == TOOL["written"](TOOL["catalogue"](described.values()))


def test_every_field_is_ec2s_but_for_the_named_overrides(
    described: dict[str, Mapping[str, Any]],
) -> None:
    differing = {
        (name, field)
        for name, known in instances().items()
        for field, value in as_ec2_states(described[name]).items()
        if as_we_state(known)[field] != value
    }
    assert differing == set(TOOL["OVERRIDES"])


def as_we_state(known: Instance) -> dict[str, Any]:
    gpu, neuron = known.gpu, known.neuron
    return {
        "vcpus": known.vcpus,
        "memory_mib": known.memory_bytes // MIB,
        "arch": known.arch,
        "gpu.count": gpu.count if gpu else 0,
        "gpu.memory_mib": gpu.memory_bytes // MIB if gpu else 0,
        "neuron.devices": neuron.devices if neuron else 0,
        "neuron.physical_cores": neuron.physical_cores if neuron else 0,
        "neuron.memory_mib": neuron.memory_bytes // MIB if neuron else 0,
        "efa": known.efa,
        "nvme_gb": known.nvme_bytes // GB,
        "usage_classes": set(known.usage_classes),
    }


def as_ec2_states(info: Mapping[str, Any]) -> dict[str, Any]:
    gpu = info.get("GpuInfo", {"Gpus": [{}]})["Gpus"][0]
    neuron = info.get("NeuronInfo", {"NeuronDevices": [{}]})["NeuronDevices"][0]
    network = info["NetworkInfo"]
    (architecture,) = info["ProcessorInfo"]["SupportedArchitectures"]
    return {
        "vcpus": info["VCpuInfo"]["DefaultVCpus"],
        "memory_mib": info["MemoryInfo"]["SizeInMiB"],
        "arch": {"x86_64": "amd64", "arm64": "arm64"}[architecture],
        "gpu.count": gpu.get("Count", 0),
        "gpu.memory_mib": gpu["MemoryInfo"]["SizeInMiB"] if gpu else 0,
        "neuron.devices": neuron.get("Count", 0),
        "neuron.physical_cores": neuron["Count"] * neuron["CoreInfo"]["Count"] if neuron else 0,
        "neuron.memory_mib": neuron["MemoryInfo"]["SizeInMiB"] if neuron else 0,
        "efa": network.get("EfaInfo", {}).get("MaximumEfaInterfaces", 0),
        "nvme_gb": info.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0),
        "usage_classes": set(info["SupportedUsageClasses"]),
    }


def test_each_override_says_why() -> None:
    assert all(reason.endswith(".") for _, reason in TOOL["OVERRIDES"].values())


def test_accelerators_have_the_names_that_ray_gives_them() -> None:
    # Read by its path: importing Ray takes seconds, and these are plain constants.
    ray = importlib.util.find_spec("ray")
    assert ray is not None
    assert ray.origin is not None
    names = Path(ray.origin).parent / "util" / "accelerators" / "accelerators.py"
    of_ray = {value for value in runpy.run_path(str(names)).values() if isinstance(value, str)}
    ours = {known.accelerator for known in instances().values()} - {None}
    assert ours <= of_ray
    assert instance("trn1.32xlarge").accelerator == NEURON_ACCELERATOR
    assert instance("p5en.48xlarge").accelerator == "H200"
    assert instance("m7i.large").accelerator is None


@pytest.mark.parametrize(
    ("name", "devices", "cores"),
    [
        ("trn1.2xlarge", 1, 2),
        ("trn1.32xlarge", 16, 32),
        ("trn1n.32xlarge", 16, 32),
        ("trn2.48xlarge", 16, 64),
        ("inf2.xlarge", 1, 2),
        ("inf2.8xlarge", 1, 2),
        ("inf2.24xlarge", 6, 12),
        ("inf2.48xlarge", 12, 24),
    ],
)
def test_neuron_cores_are_those_that_the_neuron_tools_count(
    name: str, devices: int, cores: int
) -> None:
    neuron = instance(name).neuron
    assert neuron is not None
    assert (neuron.devices, neuron.cores) == (devices, cores)


def test_two_physical_cores_of_trainium2_make_a_logical_one() -> None:
    neuron = instance("trn2.48xlarge").neuron
    assert neuron is not None
    assert (neuron.physical_cores, neuron.cores) == (128, 64)


@pytest.mark.parametrize(
    ("name", "max_pods"),
    [
        ("t3.medium", 17),
        ("m7i.large", 29),
        ("g4dn.16xlarge", 58),
        ("g5.48xlarge", 345),
        ("g6.12xlarge", 234),
        ("g6e.48xlarge", 492),
        ("i4i.24xlarge", 437),
        ("inf2.48xlarge", 737),
        ("p4d.24xlarge", 737),
        ("p5.4xlarge", 118),
        ("p5.48xlarge", 100),
        ("p6-b200.48xlarge", 198),
        ("trn1.32xlarge", 247),
    ],
)
def test_max_pods_are_those_that_eks_publishes(name: str, max_pods: int) -> None:
    # amazon-eks-ami, eni-max-pods.txt
    assert instance(name).max_pods == max_pods


@pytest.mark.parametrize(
    ("name", "gbps"),
    [
        ("p5.48xlarge", 3200),
        ("p6-b200.48xlarge", 3200),
        ("g6e.48xlarge", 400),
        ("trn1n.32xlarge", 1600),
        ("g5.xlarge", 2.5),
    ],
)
def test_the_network_is_the_whole_instances_and_what_it_can_hold(name: str, gbps: float) -> None:
    assert instance(name).network_gbps == gbps


def test_an_unknown_size_is_told_with_the_sizes_of_its_family() -> None:
    with pytest.raises(InvalidSpec, match=r"'gr6\.xlarge'.*gr6\.4xlarge, gr6\.8xlarge\."):
        instance("gr6.xlarge")


def test_a_misspelt_type_is_told_with_the_nearest() -> None:
    with pytest.raises(InvalidSpec, match=r"Did you mean p5\.48xlarge"):
        instance("p50.48xlarge")


def test_a_strange_name_is_told_with_the_families() -> None:
    with pytest.raises(InvalidSpec, match=r"The families are: .*g6e.*trn2"):
        instance("?")


def test_the_data_is_read_at_first_use() -> None:
    code = (
        "from eksml.cluster.catalogue import instances; before = instances.cache_info().currsize;"
        "instances(); print(before, instances.cache_info().currsize)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1"]


def test_a_line_of_the_file_is_one_instance() -> None:
    text = TOOL["TARGET"].read_text()
    lines = [line for line in text.splitlines() if line.startswith('    "')]
    assert len(lines) == len(json.loads(text)["instances"])
