"""Start a vLLM engine in the care of a worker's process."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import threading
from collections.abc import Collection, Mapping
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any

from eksml.batches.models.vllm_engine import Engine
from eksml.errors import EngineDied, InvalidSpec, Problem, tell
from eksml.llm.engine_arguments import Device
from eksml.llm.installed import CPU_CACHE, check_installed
from eksml.llm.lifeline import Lifeline

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from vllm.v1.engine.async_llm import AsyncLLM

_KILLED = re.compile(r"Failed core proc\(s\): \{(\}|.*: -\d+)")
"""How vLLM tells of a process of its that ended by a signal, or before it could say anything."""
START_LOOK_S = 0.1
"""Seconds between looks for new processes while it starts."""


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
