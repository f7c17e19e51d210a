"""The vLLM that is installed: its version, the device that it is built for, its environment."""

from __future__ import annotations

import os
from typing import Any

from eksml.errors import InvalidSpec, MissingExtra, Problem
from eksml.llm.engine_arguments import Device

OLDEST = (0, 30)
"""Older versions lack security fixes."""
ENVIRONMENT = {
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork of a process with threads may hang
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}
_HOW: dict[Device, str] = {
    "cpu": "pip install 'eksml[cpu]'",
    "gpu": "pip install 'eksml[gpu]'",
    "neuron": "Use AWS's image with its plugin vllm-neuron.",
}
CPU_CACHE = ("VLLM_CPU_KVCACHE_SPACE", "1")
"""GiB for the key-value cache of an engine on CPUs, where vLLM would take half of the memory."""


def installed_device() -> Device:
    """What the installed vLLM computes on.

    Raises:
        MissingExtra: There is none.
    """
    import_vllm()
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        return "cpu"
    # AWS's plugin for Neuron is a platform from outside of vLLM, known by its name only
    return "neuron" if current_platform.device_name == "neuron" else "gpu"


def check_installed(device: Device) -> None:
    """See that the installed vLLM can be used.

    Raises:
        MissingExtra: There is none.
        InvalidSpec: It is too old, or for another device.
    """
    vllm = import_vllm()
    if tuple(vllm.__version_tuple__[:2]) < OLDEST:
        told = f"vLLM {vllm.__version__} is older than {OLDEST[0]}.{OLDEST[1]}."
        raise InvalidSpec([Problem("engine", told, "Install a newer one.")], "the model")
    if device != installed_device():
        told = f"The installed vLLM is not built for {device}."
        raise InvalidSpec([Problem("device", told, _HOW[device])], "the model")


def import_vllm() -> Any:
    """The module ``vllm``, imported with the environment that eksml wants it to have.

    Raises:
        MissingExtra: It cannot be imported.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import vllm
        import vllm.platforms
    except ImportError as error:
        told = f"vLLM cannot be imported ({error})."
        raise MissingExtra(
            f"{told} Install it: pip install 'eksml[cpu]' or 'eksml[gpu]'"
        ) from error
    return vllm
