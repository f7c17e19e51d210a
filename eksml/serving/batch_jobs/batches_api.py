"""``/v1/batches``: make, look at, list and cancel. Each tenant sees its own."""

from __future__ import annotations

import asyncio
import itertools
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
from eksml.serving.batch_jobs.plan import MOST_ERRORS, judge
from eksml.serving.batch_jobs.records import Asked, Batch, End, Mark
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
        file = self._input(tenant, wanted.input_file_id)
        now_s = time.time()
        asked = Asked(
            id=new_batch_id(now_s),
            tenant=tenant,
            **wanted.model_dump(),
            model=self._model(file),
            created_at=int(now_s),
            expires_at=int(now_s) + window_s(wanted.completion_window),
        )
        batch = Batch(batches_of(self.root, tenant) / asked.id)
        if asked.model is None:
            batch.finish(self._failed(file, asked))
        else:
            # The mark first: a batch that no worker can find would never end
            mark = Mark(tenant=tenant, model=asked.model)
            (open_batches(self.root) / f"{asked.id}.json").write_json(mark.model_dump())
        batch.ask(asked)
        return _show(batch)

    def _input(self, tenant: str, name: str) -> StoredFile:
        file = find_file(files_of(self.root, tenant), name)
        if file is None:
            raise no_such("file", name)
        if file.purpose != "batch":
            told = f"The file {file.id} was not uploaded for batches."
            raise Refusal(400, "invalid", told, "input_file_id")
        return file

    def _model(self, file: StoredFile) -> str | None:
        """The model of the first line that names one; None if so many are wrong that no further
        one is looked at."""
        lines = itertools.islice(lines_of(file.chunks(), self.most_line_bytes), MOST_ERRORS)
        try:
            found = (model_of(line.text) for line in lines)
            model = next((each for each in found if each is not None), None)
        except LineTooLong:
            return None
        if model is not None and model not in self.served:
            known = ", ".join(self.served)
            told = f"The input asks for the model {model[:100]!r}. Served here: {known}."
            raise Refusal(404, "model_not_found", told, "input_file_id")
        return model

    def _failed(self, file: StoredFile, asked: Asked) -> End:
        """The end of a batch that names no model, so that no worker would take it."""
        judged = judge(file, asked.endpoint, self.served, most_line_bytes=self.most_line_bytes)
        return End(at=asked.created_at, status="failed", errors=tuple(judged.errors))


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
