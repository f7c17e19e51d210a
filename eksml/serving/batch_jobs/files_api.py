"""``/v1/files``: upload, look at, download, list and delete. Each tenant sees its own."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eksml.serving.batch_jobs.errors import no_such
from eksml.serving.batch_jobs.files import FileWriter, StoredFile, delete_file, find_file
from eksml.serving.batch_jobs.pages import page_of
from eksml.serving.batch_jobs.places import files_of, is_file_id, new_file_id
from eksml.serving.batch_jobs.upload import store_upload
from eksml.storage import URI

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

Answer = Callable[["Request"], Awaitable["Response"]]


@dataclass(frozen=True)
class FilesApi:
    """The handlers. Storage is used in threads."""

    root: URI
    tenant_of: Callable[[Request], str]
    most_bytes: int

    async def upload(self, request: Request) -> Response:
        """``POST /v1/files``"""
        from starlette.responses import JSONResponse

        writer = FileWriter(self._folder(request) / new_file_id(time.time()))
        kind = request.headers.get("content-type", "")
        file = await store_upload(kind, request.stream(), writer, most_bytes=self.most_bytes)
        return JSONResponse(file.view())

    async def show(self, request: Request) -> Response:
        """``GET /v1/files/{id}``"""
        from starlette.responses import JSONResponse

        return JSONResponse((await self._find(request)).view())

    async def content(self, request: Request) -> Response:
        """``GET /v1/files/{id}/content``"""
        from starlette.responses import StreamingResponse

        file = await self._find(request)
        chunks = file.chunks()
        # The first part is read before the status is sent, so that damage is told by one
        first = await asyncio.to_thread(next, chunks, bytearray())
        texts = (bytes(chunk) for chunk in itertools.chain([first], chunks))
        headers = {"content-length": str(file.size)}
        return StreamingResponse(texts, 200, headers, "application/jsonl")

    async def delete(self, request: Request) -> Response:
        """``DELETE /v1/files/{id}``"""
        from starlette.responses import JSONResponse

        file = await self._find(request)
        await asyncio.to_thread(delete_file, file)
        return JSONResponse({"id": file.id, "object": "file", "deleted": True})

    async def list(self, request: Request) -> Response:
        """``GET /v1/files``"""
        from starlette.responses import JSONResponse

        folder = self._folder(request)
        purpose = request.query_params.get("purpose")
        page = await asyncio.to_thread(
            page_of,
            folder,
            request.query_params,
            is_file_id,
            lambda name: _view(folder, name, purpose),
        )
        return JSONResponse(page)

    def _folder(self, request: Request) -> URI:
        return files_of(self.root, self.tenant_of(request))

    async def _find(self, request: Request) -> StoredFile:
        name = request.path_params["file_id"]
        file = await asyncio.to_thread(find_file, self._folder(request), name)
        if file is None:
            raise no_such("file", name)
        return file


def _view(folder: URI, name: str, purpose: str | None) -> dict[str, object] | None:
    file = find_file(folder, name)
    return file.view() if file is not None and purpose in (None, file.purpose) else None
