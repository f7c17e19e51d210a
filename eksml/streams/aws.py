"""Errors of AWS's client in the words of eksml."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from eksml.errors import AccessDenied, NotFound, StorageUnavailable

_MISSING = (
    "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDoesNotExist",
    "ResourceNotFoundException",
)
_DENIED = (
    "AccessDenied",
    "AccessDeniedException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
)


@contextmanager
def told(what: str) -> Iterator[None]:
    """Translate errors of calls about ``what``, such as ``the queue 'uploads'``.

    Raises:
        NotFound: It is not there.
        AccessDenied: It may not be used.
        StorageUnavailable: AWS does not answer, after boto3's own tries.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _MISSING:
            raise NotFound(f"There is no {what}. Make it, or name another.") from error
        if code in _DENIED:
            raise AccessDenied(f"The {what} may not be used: {error}") from error
        raise StorageUnavailable(f"The {what}: {error}") from error
    except BotoCoreError as error:
        raise StorageUnavailable(f"The {what}: {error}") from error
