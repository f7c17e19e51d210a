"""One copy of a model on Ray Serve: vLLM's engine, and its OpenAI application behind the gate.

The replica is an ASGI application itself, so that no token is passed from process to process:
HAProxy (or Serve's own proxy) speaks HTTP with the very process whose event loop gets the engine's
outputs.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import os
import signal
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eksml.errors import EngineDied
from eksml.serving import trace
from eksml.serving.commons import Commons
from eksml.serving.device import on_device
from eksml.serving.gate import media
from eksml.serving.gate.asgi import ASGIApp, Receive, Scope, Send, path_of
from eksml.serving.gate.gate import Gate
from eksml.serving.gate.suspects import Suspects
from eksml.serving.playground import playground
from eksml.serving.profiles import Settings, settings_of
from eksml.serving.request_meters import meters_of_replica
from eksml.serving.spec import AppSpec

if TYPE_CHECKING:
    from eksml.serving.engine import Engine

LAST_WORDS_S = 1.0
"""Seconds that requests under way have to tell their clients that the engine is gone."""
LOOK_S = 0.5
"""Seconds between looks whether the engine is still ready."""

logger = logging.getLogger("eksml.serving")


class Replica:
    """The deployment of one model. Serve calls all of its methods.

    Args:
        args: The fields of an ``AppSpec``.
    """

    def __init__(self, args: Mapping[str, Any]) -> None:
        self._spec = AppSpec(**args)
        self._engine: Engine | None = None
        self._commons: Commons | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called once, after the constructor: what Serve's ``ingress()`` serves.

        Raises:
            InvalidSpec: The engine did not start, or the file of tenants is wrong.
            EngineDied: The engine started, and computes nothing.
            StorageError: The model's files cannot be fetched.
        """
        model = await asyncio.to_thread(on_device, self._spec.model)
        spec = self._spec = self._spec.model_copy(update={"model": model})
        settings = settings_of(spec.model, deadline_s=spec.limits.deadline_s)
        engine = self._engine = await engine_of(spec, settings)
        app: ASGIApp = Pages(engine.app)
        if spec.batches is not None:
            app = self._with_batches(app, engine)
        meters = meters_of_replica(spec.model.name, version_of(spec), _replica_name())
        suspects = Suspects(time.time)
        commons = self._commons = Commons(_app_name(), _replica_name(), suspects)
        gate = Gate(
            app,
            spec=spec,
            capacity=settings.capacity,
            engine=engine,
            meters=meters,
            suspects=suspects,
            share=commons.share,
            mourn=commons.mourn,
        )
        self._keep(engine.watch())
        self._keep(commons.keep())
        self._keep(self._end_with(engine, gate, commons))
        # 750,000 objects, most of them imported: each full collection would stop all for 0.4 s
        gc.collect()
        gc.freeze()
        return trace.traced(gate, spec.model.name)

    def check_health(self) -> None:
        """Called by Serve every few seconds.

        Raises:
            EngineDied: The engine is dead, or has not generated a token when it was asked to.
        """
        if self._engine is not None and not self._engine.ready:
            state = "does not answer" if self._engine.alive else "is dead"
            raise EngineDied(f"The engine of {self._spec.model.name} {state}.")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Serve several times a second."""
        return {} if self._engine is None else self._engine.signals.numbers()

    def __del__(self) -> None:
        """Called by Serve when the replica has been drained."""
        for task in self._tasks:
            task.cancel()
        if self._commons is not None:
            self._commons.leave()
        if self._engine is not None:
            self._engine.close()

    def _with_batches(self, app: ASGIApp, engine: Engine) -> ASGIApp:
        from eksml.serving.batch_jobs import BatchJobs

        jobs = BatchJobs(self._spec, app, engine, lambda request: str(request.state.tenant))
        self._keep(jobs.run())
        return jobs

    def _keep(self, work: Any) -> None:
        self._tasks.append(asyncio.ensure_future(work))

    async def _end_with(self, engine: Engine, gate: Gate, commons: Commons) -> None:
        """A replica without engine is of no use: the sooner it is gone, the sooner Serve starts
        another one. Those that wait for a slot are sent away, and HAProxy asks elsewhere."""
        while engine.alive:
            if not engine.ready:
                gate.turn_away()
            await asyncio.sleep(LOOK_S)
        logger.error("The engine of %s is dead: its replica ends.", self._spec.model.name)
        gate.turn_away()
        await commons.mourn()
        await asyncio.sleep(LAST_WORDS_S)
        os.kill(os.getpid(), signal.SIGTERM)


class Pages:
    """vLLM's application, and the page on which a person tries the model at ``/``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page = scope["type"] == "http" and path_of(scope) == "/"
        await (playground if page else self._app)(scope, receive, send)


async def engine_of(spec: AppSpec, settings: Settings) -> Engine:
    """The model's engine, its files fetched to this node if they are not here."""
    from eksml.llm.installed import check_installed
    from eksml.llm.lora import lora_arguments
    from eksml.llm.model_folder import fetch
    from eksml.serving.engine import start

    model = spec.model
    device = model.device
    assert device is not None, "on_device() says it"
    check_installed(device)
    folder = await asyncio.to_thread(fetch, model.source)
    adapters = {
        name: await asyncio.to_thread(fetch, place) for name, place in model.adapters.items()
    }
    arguments = {
        **settings.engine,
        **lora_arguments(list(adapters.values()), device),
        **media.engine_arguments(spec.limits.media),
        "model": folder,
    }
    if (traces := trace.endpoint()) is not None:
        arguments["otlp_traces_endpoint"] = traces
        os.environ.setdefault("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", trace.protocol())
    return await start(model.name, arguments, settings.frontend, adapters, model.task)


def version_of(spec: AppSpec) -> str:
    """What tells this configuration of a model from another one, in metrics."""
    return hashlib.sha256(spec.model.model_dump_json().encode()).hexdigest()[:8]


def _app_name() -> str:
    from ray import serve

    return str(serve.get_replica_context().app_name)


def _replica_name() -> str:
    from ray import serve

    return str(serve.get_replica_context().replica_id.unique_id)
