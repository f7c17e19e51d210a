"""What a replica gains from ``AppSpec.batches``: the API, and a worker beside the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from eksml.serving.batch_jobs.api import PREFIXES, jobs_app
from eksml.serving.batch_jobs.in_process import EngineState, InProcessEngine
from eksml.serving.batch_jobs.worker import Worker
from eksml.serving.gate.asgi import ASGIApp, Receive, Scope, Send, path_of
from eksml.serving.spec import AppSpec
from eksml.storage import URI

if TYPE_CHECKING:
    from starlette.requests import Request

_COMPUTE = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")


class BatchJobs:
    """An ASGI application to be put behind the gate, in place of the engine's own.

    >>> jobs = BatchJobs(spec, engine.app, engine, tenant_of)  # doctest: +SKIP
    >>> gate = Gate(jobs, …); worker = asyncio.create_task(jobs.run())  # doctest: +SKIP

    It answers the paths of the Files and Batches API, hands everything else to the engine's
    application, and counts the requests that the engine has, so that rows keep out of their way.
    """

    def __init__(
        self,
        spec: AppSpec,
        app: ASGIApp,
        state: EngineState,
        tenant_of: Callable[[Request], str],
    ) -> None:
        assert spec.batches is not None
        root = URI.parse(spec.batches)
        served, most = spec.model.served_names, spec.limits.body_bytes
        self._app = app
        self._jobs = jobs_app(root, served, most_line_bytes=most, tenant_of=tenant_of)
        self._engine = InProcessEngine(app, spec, state)
        self._worker = Worker(root, self._engine, served, most_line_bytes=most)

    async def run(self) -> None:
        """Answer the rows of batches until cancelled, which hands them on to another replica."""
        await self._worker.run()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_of(scope) if scope["type"] == "http" else ""
        if path.startswith(PREFIXES):
            await self._jobs(scope, receive, send)
        elif path in _COMPUTE:
            self._engine.online += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._engine.online -= 1
        else:
            await self._app(scope, receive, send)
