"""What is said to a client when something is wrong, in OpenAI's shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eksml.errors import EksmlError, InvalidSpec, StorageUnavailable
from eksml.serving.batch_jobs.upload import TooLarge

if TYPE_CHECKING:
    from starlette.responses import Response


class Refusal(EksmlError):
    """The request is answered with an error."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


def no_such(kind: str, name: str) -> Refusal:
    """There is no file or batch of that name, or it is another tenant's, which is not told."""
    return Refusal(404, f"{kind}_not_found", f"There is no {kind} {name[:80]!r}.", "id")


def respond(error: EksmlError) -> Response:
    """The answer that tells of an error."""
    from starlette.responses import JSONResponse

    told = _refusal(error)
    kind = "server_error" if told.status >= 500 else "invalid_request_error"
    body = {"message": str(told), "type": kind, "param": told.param, "code": told.code}
    return JSONResponse({"error": body}, told.status)


def _refusal(error: EksmlError) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, InvalidSpec):
        told = " ".join(str(problem) for problem in error.problems)
        status, code = (413, "file_too_large") if isinstance(error, TooLarge) else (400, "invalid")
        return Refusal(status, code, told, error.problems[0].path)
    if isinstance(error, StorageUnavailable):
        return Refusal(503, "storage_unavailable", "The storage does not answer. Try again later.")
    # What lies where in the storage is no business of a client
    return Refusal(500, "storage_error", "The storage holds something that cannot be read.")
