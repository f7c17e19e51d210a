"""vLLM inside a replica: its engine, its own OpenAI application, and whether they work.

All that eksml's serving touches of vLLM's inside is in this module. vLLM has no public way to put
its OpenAI application into somebody else's server, so the same four calls are made that
``vllm serve`` makes (``vllm.entrypoints.launchers.api_server.entry``): the command line's default
arguments, ``AsyncLLM``, ``build_app``, ``init_app_state``. What it answers is therefore what bare
vLLM answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import multiprocessing
import time
import typing
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from eksml.errors import EngineDied, InvalidSpec, Problem, tell
from eksml.serving.scaling import Signals
from eksml.serving.step_times import Leeway, StepTimes

if TYPE_CHECKING:
    from argparse import Namespace
    from multiprocessing.process import BaseProcess

    from fastapi import FastAPI
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    from eksml.llm.lifeline import Lifeline

LOOK_S = 0.25
"""Seconds between looks for a dead engine, and for new processes of one that starts."""
QUIET_S = 5.0
"""An engine that has made no step for so long is asked for one token."""
PROBE_S = 8.0
"""Seconds that it has for that token. Together with ``QUIET_S`` below the 15 s after which an
engine that hangs must not count as ready any more."""
WARM_S = 600.0
"""The first token may take long: kernels are compiled for it."""


class Pulse:
    """When the engine last made a step, as vLLM's statistics tell, and what the autoscaler is told.

    One of vLLM's statistics loggers by its methods; the names in what it is given are not stable
    between vLLM's versions.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.last_s = clock()
        self.signals = Signals(clock)
        self.steps = StepTimes()

    def factory(self, *_: Any) -> Pulse:
        """What vLLM calls to make one of its loggers."""
        return self

    def record(self, scheduler: Any, iteration: Any, *_: Any, **__: Any) -> None:
        """Called by vLLM after each step."""
        self.last_s = self._clock()
        firsts = () if iteration is None else iteration.time_to_first_tokens_iter
        if iteration is not None:
            self.steps.step(firsts, iteration.inter_token_latencies_iter)
        if scheduler is not None:
            requests = scheduler.num_running_reqs + scheduler.num_waiting_reqs
            self.signals.step(scheduler.kv_cache_usage, requests, firsts)

    def quiet_s(self) -> float:
        """Seconds since the last step."""
        return self._clock() - self.last_s

    def log(self) -> None:
        """Called by vLLM every ten seconds."""

    def log_engine_initialized(self) -> None:
        """Called by vLLM once."""

    def record_sleep_state(self, *_: Any) -> None:
        """Called by vLLM when weights leave the accelerator; they never do here."""


class Engine:
    """A running engine. ``ready`` and ``alive`` are what the gate and Serve go by.

    Used in the event loop that started it, but for ``close``.
    """

    def __init__(
        self,
        llm: AsyncLLM,
        app: FastAPI,
        task: str,
        pulse: Pulse,
        lifeline: Lifeline,
        cores: list[BaseProcess],
    ) -> None:
        self.app = app
        """vLLM's OpenAI application, all of its routes included: not to be shown to anybody
        without an allowlist."""
        self.llm = llm
        self._task = task
        self._pulse = pulse
        self._lifeline = lifeline
        self._cores = cores
        self._ids = itertools.count()
        self._answers = False
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether all of its processes are there, and its loop in this process runs."""
        if self._closed or self.llm.errored:
            return False
        return all(core.is_alive() for core in self._cores)

    @property
    def ready(self) -> bool:
        """Whether it generated something of late."""
        return self._answers and self.alive

    @property
    def context(self) -> int:
        """Most tokens of a prompt and its answer together."""
        found: int = self.llm.model_config.max_model_len
        return found

    @property
    def slots(self) -> int:
        """Requests that are computed at once, at most."""
        found: int = self.llm.vllm_config.scheduler_config.max_num_seqs
        return found

    @property
    def signals(self) -> Signals:
        """What the autoscaler is told of its steps."""
        return self._pulse.signals

    def leeway(self, online: int) -> Leeway:
        """What may be computed beside so many online requests without slowing them down. A model
        that embeds computes each in one step, of which there is nothing to learn: one at a time."""
        if self._task == "embed":
            return Leeway(1, 0.0)
        return self._pulse.steps.leeway(online)

    async def warm_up(self) -> None:
        """Compute once, which must work before anybody else is let in.

        Raises:
            EngineDied: It does not.
        """
        try:
            await asyncio.wait_for(self._one_token(), WARM_S)
        except Exception as error:
            told = f"The engine started, but computes nothing: {tell(error)}."
            raise EngineDied(told) from error
        self._answers = True

    async def watch(self) -> None:
        """Keep ``ready`` true to what is; returns when the engine is dead."""
        while self.alive:
            if self._pulse.quiet_s() < QUIET_S:
                self._answers = True
            else:
                await self._probe()
            await asyncio.sleep(LOOK_S)

    def close(self) -> None:
        """End the engine's processes. Twice is fine; blocks for a moment."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(Exception):  # whatever is left, the lifeline ends
            self.llm.shutdown(timeout=0)
        self._lifeline.let_go()

    async def _probe(self) -> None:
        """Ask for a token. One that died meanwhile fails at once, one that hangs by the time."""
        probe = asyncio.ensure_future(self._one_token())
        began_s = time.monotonic()
        while not probe.done() and time.monotonic() - began_s < PROBE_S and self.alive:
            await asyncio.wait([probe], timeout=LOOK_S)
        self._answers = probe.done() and not probe.cancelled() and probe.exception() is None
        probe.cancel()

    async def _one_token(self) -> None:
        from vllm import PoolingParams, SamplingParams

        prompt: Any = {"prompt_token_ids": [1]}
        number = f"eksml-probe-{next(self._ids)}"
        answers: Any
        if self._task == "embed":
            answers = self.llm.encode(prompt, PoolingParams(task="embed"), number)
        else:
            params = SamplingParams(max_tokens=1, temperature=0.0)
            answers = self.llm.generate(prompt, params, number)
        async for _ in answers:
            pass


async def start(
    name: str,
    arguments: Mapping[str, Any],
    frontend: Mapping[str, Any],
    adapters: Mapping[str, str],
    task: str,
) -> Engine:
    """Start an engine and its application; takes from 15 s to minutes.

    Args:
        name: What clients call the model.
        arguments: All of vLLM's engine arguments, the model as a local folder or hub name.
        frontend: Arguments of vLLM's server, such as ``tool_call_parser``.
        adapters: Name → local folder of LoRA adapters.
        task: ``generate`` or ``embed``.

    Raises:
        InvalidSpec: It did not start; says why.
        EngineDied: It started, and computes nothing.
    """
    from eksml.llm.lifeline import Lifeline

    lifeline, others, pulse = Lifeline(), set(multiprocessing.active_children()), Pulse()
    try:
        made = asyncio.ensure_future(asyncio.to_thread(_start, name, arguments, pulse))
        while not made.done():
            lifeline.hold(core.pid for core in _cores(others) if core.pid is not None)
            await asyncio.wait([made], timeout=LOOK_S)
        llm, given = made.result()
        app = await _application(llm, _server_arguments(given, frontend, adapters))
        engine = Engine(llm, app, task, pulse, lifeline, _cores(others))
        await engine.warm_up()
    except Exception as error:
        lifeline.let_go()
        if isinstance(error, EngineDied):
            raise
        told = f"vLLM's engine did not start: {tell(error)}."
        raise InvalidSpec([Problem("engine", told, "The log tells more.")], name) from error
    return engine


def _cores(others: set[BaseProcess]) -> list[BaseProcess]:
    """The engine's processes: what was started since."""
    return [child for child in multiprocessing.active_children() if child not in others]


def _start(
    name: str, arguments: Mapping[str, Any], pulse: Pulse
) -> tuple[AsyncLLM, AsyncEngineArgs]:
    """In a thread: it blocks until the weights are loaded."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    given = AsyncEngineArgs(**_typed(arguments), served_model_name=[name])
    # With this context the scheduler's defaults are those of `vllm serve`
    llm = AsyncLLM.from_engine_args(
        given, usage_context=UsageContext.OPENAI_API_SERVER, stat_loggers=[pulse.factory]
    )
    return llm, given


def _typed(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings made into vLLM's own classes, as its command line does."""
    from pydantic import TypeAdapter
    from vllm.engine import arg_utils

    made = dict(arguments)
    for field in dataclasses.fields(arg_utils.AsyncEngineArgs):
        if isinstance(made.get(field.name), dict):
            holder = type("Holder", (), {"__annotations__": {field.name: field.type}})
            hints = typing.get_type_hints(holder, vars(arg_utils))
            made[field.name] = TypeAdapter(hints[field.name]).validate_python(made[field.name])
    return made


def _server_arguments(
    given: AsyncEngineArgs, frontend: Mapping[str, Any], adapters: Mapping[str, str]
) -> Namespace:
    """What ``vllm serve`` would have made of its command line."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.entrypoints.openai.models.protocol import LoRAModulePath
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    found: Namespace = make_arg_parser(FlexibleArgumentParser()).parse_args([])
    for field in dataclasses.fields(given):
        setattr(found, field.name, getattr(given, field.name))
    for name, value in frontend.items():
        setattr(found, name, value)
    found.lora_modules = [LoRAModulePath(name, folder) for name, folder in adapters.items()]
    found.disable_fastapi_docs = True  # they would show routes that are closed
    validate_parsed_serve_args(found)
    return found


async def _application(llm: AsyncLLM, arguments: Namespace) -> FastAPI:
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app

    tasks = await llm.get_supported_tasks()
    app: FastAPI = build_app(arguments, tasks, llm.model_config)
    await init_app_state(llm, app.state, arguments, tasks)
    # What vLLM puts around its routes (keys, CORS, counts of HTTP requests) is the gate's business
    # here, and each layer is called for every token
    app.user_middleware.clear()
    app.middleware_stack = None  # has been built with them; the first request builds it anew
    # When the engine died, vLLM's error handler tells its server to stop; here Serve does
    app.state.server = SimpleNamespace(should_exit=False)
    return app
