"""The Files and Batches API of OpenAI, as an ASGI app over storage; it needs no engine."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from eksml.errors import EksmlError
from eksml.serving.batch_jobs.batches_api import BatchesApi
from eksml.serving.batch_jobs.errors import respond
from eksml.serving.batch_jobs.files_api import FilesApi
from eksml.storage import URI

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

FILE_BYTES = 200 * 2**20
"""Longest input, as in OpenAI's API."""
PREFIXES = ("/v1/files", "/v1/batches")
"""Paths that begin so belong to this API."""


def jobs_app(
    root: URI,
    served: Collection[str],
    *,
    most_line_bytes: int,
    tenant_of: Callable[[Request], str],
    most_file_bytes: int = FILE_BYTES,
) -> Starlette:
    """The app for everything under ``PREFIXES``.

    Args:
        root: Where files and batches lie; shared by all replicas of all models.
        served: What lines may say in ``model``, of all models behind the same URL.
        most_line_bytes: Longest line of an input.
        tenant_of: Whose request it is, as a gate before this has found; empty for nobody's.
        most_file_bytes: Longest upload.
    """
    from starlette.applications import Starlette
    from starlette.routing import Route

    files = FilesApi(root, tenant_of, most_file_bytes)
    batches = BatchesApi(root, tenant_of, served, most_line_bytes)
    routes = [
        Route("/v1/files", files.upload, methods=["POST"]),
        Route("/v1/files", files.list, methods=["GET"]),
        Route("/v1/files/{file_id}", files.show, methods=["GET"]),
        Route("/v1/files/{file_id}", files.delete, methods=["DELETE"]),
        Route("/v1/files/{file_id}/content", files.content, methods=["GET"]),
        Route("/v1/batches", batches.create, methods=["POST"]),
        Route("/v1/batches", batches.list, methods=["GET"]),
        Route("/v1/batches/{batch_id}", batches.show, methods=["GET"]),
        Route("/v1/batches/{batch_id}/cancel", batches.cancel, methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={EksmlError: _tell})


async def _tell(request: Request, error: Exception) -> Response:
    assert isinstance(error, EksmlError)
    return respond(error)
