"""Start a vLLM engine, of the version that is installed, on the device that it is built for."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import threading
from collections.abc import Collection, Mapping
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any

from eksml.batches.models.base import EngineDied
from eksml.batches.models.engine_arguments import Device
from eksml.batches.models.isolation import tell
from eksml.batches.models.lifeline import Lifeline
from eksml.batches.models.vllm_engine import Engine
from eksml.errors import InvalidSpec, MissingExtra, Problem

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from vllm.v1.engine.async_llm import AsyncLLM

OLDEST = (0, 30)
"""Older versions lack security fixes."""
_KILLED = re.compile(r"Failed core proc\(s\): \{(\}|.*: -\d+)")
"""How vLLM tells of a process of its that ended by a signal, or before it could say anything."""
START_LOOK_S = 0.1
"""Seconds between looks for new processes while it starts."""
ENVIRONMENT = {
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork of a process with threads may hang
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}
CPU_CACHE = ("VLLM_CPU_KVCACHE_SPACE", "1")
"""GiB for the key-value cache of an engine on CPUs, where vLLM would take half of the memory."""


def start(arguments: Mapping[str, Any], device: Device) -> Engine:
    """Start an engine; takes from 15 s to minutes.

    Args:
        arguments: All of vLLM's engine arguments, the model as a local folder or hub name.
        device: What it computes on.

    Raises:
        MissingExtra: vLLM is not installed.
        InvalidSpec: It is too old, for another device, or it did not start.
        EngineDied: A signal ended it while it started.
    """
    check_installed(device)
    if device == "cpu":
        os.environ.setdefault(*CPU_CACHE)
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="eksml-vllm", daemon=True).start()
    lifeline, others = Lifeline(), set(multiprocessing.active_children())
    try:
        made = asyncio.run_coroutine_threadsafe(_start(arguments), loop)
        while not made.done():
            lifeline.hold(child.pid for child in _children(others) if child.pid is not None)
            wait([made], timeout=START_LOOK_S)
        return Engine(made.result(), loop, lifeline, _children(others))
    except Exception as error:
        loop.call_soon_threadsafe(loop.stop)
        lifeline.let_go()
        if _KILLED.search(str(error)):
            raise EngineDied(f"The engine was killed while it started ({error}).") from error
        raise InvalidSpec([Problem("engine", _not_started(error))], "the model") from error


def _children(others: Collection[BaseProcess]) -> list[BaseProcess]:
    """The engine's processes: what was started since."""
    return [child for child in multiprocessing.active_children() if child not in others]


def installed_device() -> Device:
    """What the installed vLLM computes on.

    Raises:
        MissingExtra: There is none.
    """
    _import_vllm()
    from vllm.platforms import current_platform

    return "cpu" if current_platform.is_cpu() else "gpu"


def check_installed(device: Device) -> None:
    """See that the installed vLLM can be used.

    Raises:
        MissingExtra: There is none.
        InvalidSpec: It is too old, or for another device.
    """
    vllm = _import_vllm()
    if tuple(vllm.__version_tuple__[:2]) < OLDEST:
        told = f"vLLM {vllm.__version__} is older than {OLDEST[0]}.{OLDEST[1]}."
        raise InvalidSpec([Problem("engine", told, "Install a newer one.")], "the model")
    if device != installed_device():
        told = f"The installed vLLM is not built for {device}."
        raise InvalidSpec([Problem("device", told, f"pip install 'eksml[{device}]'")], "the model")


def _import_vllm() -> Any:
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


async def _start(arguments: Mapping[str, Any]) -> AsyncLLM:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    # With this context the scheduler is set up for throughput, as that of vllm.LLM
    made = AsyncLLM.from_engine_args(
        AsyncEngineArgs(**arguments), usage_context=UsageContext.LLM_CLASS
    )
    await made.get_supported_tasks()
    return made


def _not_started(error: Exception) -> str:
    cause = f"{tell(error)}".rstrip(".")
    return f"vLLM's engine did not start: {cause}. The worker's log tells more."
