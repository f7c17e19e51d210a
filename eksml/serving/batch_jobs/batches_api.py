"""``/v1/batches``: make, look at, list and cancel. Each tenant sees its own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eksml.serving.batch_jobs.asking import BatchRequest, window_s
from eksml.serving.batch_jobs.errors import Refusal, no_such
from eksml.serving.batch_jobs.files import StoredFile, find_file
from eksml.serving.batch_jobs.lines import LineTooLong, lines_of, model_of
from eksml.serving.batch_jobs.pages import page_of
from eksml.serving.batch_jobs.places import (
    batches_of,
    files_of,
    is_batch_id,
    new_batch_id,
    open_batches,
)
from eksml.serving.batch_jobs.records import Asked, Batch, Mark
from eksml.serving.batch_jobs.view import read_view
from eksml.storage import URI

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


@dataclass(frozen=True)
class BatchesApi:
    """The handlers. Storage is used in threads."""

    root: URI
    tenant_of: Callable[[Request], str]
    served: Collection[str]
    """What lines may say in ``model``."""
    most_line_bytes: int

    async def create(self, request: Request) -> Response:
        """``POST /v1/batches``"""
        wanted = _parse(await request.body())
        return await self._answer(self._create, self.tenant_of(request), wanted)

    async def show(self, request: Request) -> Response:
        """``GET /v1/batches/{id}``"""
        return await self._answer(_show, self._named(request))

    async def cancel(self, request: Request) -> Response:
        """``POST /v1/batches/{id}/cancel``"""
        return await self._answer(_cancel, self._named(request))

    async def list(self, request: Request) -> Response:
        """``GET /v1/batches``"""
        folder = batches_of(self.root, self.tenant_of(request))
        return await self._answer(
            page_of,
            folder,
            request.query_params,
            is_batch_id,
            lambda name: read_view(Batch(folder / name), time.time()),
        )

    async def _answer(self, work: Callable[..., dict[str, Any]], *args: Any) -> Response:
        from starlette.responses import JSONResponse

        return JSONResponse(await asyncio.to_thread(work, *args))

    def _named(self, request: Request) -> Batch:
        name = request.path_params["batch_id"]
        if not is_batch_id(name):
            raise no_such("batch", name)
        return Batch(batches_of(self.root, self.tenant_of(request)) / name)

    def _create(self, tenant: str, wanted: BatchRequest) -> dict[str, Any]:
        file = find_file(files_of(self.root, tenant), wanted.input_file_id)
        if file is None:
            raise no_such("file", wanted.input_file_id)
        if file.purpose != "batch":
            told = f"The file {file.id} was not uploaded for batches."
            raise Refusal(400, "invalid", told, "input_file_id")
        now_s = time.time()
        asked = Asked(
            id=new_batch_id(now_s),
            tenant=tenant,
            **wanted.model_dump(),
            model=self._model(file),
            created_at=int(now_s),
            expires_at=int(now_s) + window_s(wanted.completion_window),
        )
        # The mark first: a batch that no worker can find would never end
        mark = open_batches(self.root) / f"{asked.id}.json"
        mark.write_json(Mark(tenant=tenant, model=asked.model).model_dump())
        batch = Batch(batches_of(self.root, tenant) / asked.id)
        batch.ask(asked)
        return _show(batch)

    def _model(self, file: StoredFile) -> str | None:
        """The first line's model; None if that line is none, of which the batch will tell."""
        try:
            line = next(lines_of(file.chunks(), self.most_line_bytes), None)
        except LineTooLong:
            return None
        model = model_of(line.text) if line is not None else None
        if model is not None and model not in self.served:
            known = ", ".join(self.served)
            told = f"The first line asks for the model {model[:100]!r}. Served here: {known}."
            raise Refusal(404, "model_not_found", told, "input_file_id")
        return model


def _show(batch: Batch) -> dict[str, Any]:
    view = read_view(batch, time.time())
    if view is None:
        raise no_such("batch", batch.id)
    return view


def _cancel(batch: Batch) -> dict[str, Any]:
    status = _show(batch)["status"]
    if status in ("completed", "failed", "expired", "cancelled"):
        told = f"The batch {batch.id} has ended: it is {status}."
        raise Refusal(409, "batch_ended", told, "id")
    batch.cancel(time.time())
    return _show(batch)


def _parse(body: bytes) -> BatchRequest:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "invalid_json", f"The body is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise Refusal(400, "invalid_json", "The body is JSON, but not an object.")
    return BatchRequest(**value)
