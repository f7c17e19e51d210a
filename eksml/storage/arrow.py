"""The storage as a filesystem of pyarrow, for libraries that write by themselves (Ray Train)."""

from __future__ import annotations

import os
from typing import Any

from eksml.storage.uri import URI

_TRIES = 10
"""Times that pyarrow makes one call; its own 3 lose a call in 40 where 30 % of requests fail."""


def arrow_filesystem(uri: URI) -> tuple[str, Any]:
    """``uri`` as pyarrow's path and filesystem. It keeps its retries on the way to other processes.

    Endpoint and region come from the standard AWS variables, credentials from pyarrow's own chain.
    """
    if uri.scheme == "file":
        from pyarrow.fs import LocalFileSystem

        return uri.key, LocalFileSystem()
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return f"{uri.bucket}/{uri.key}", _s3(endpoint, region)


def _s3(endpoint: str | None, region: str | None) -> Any:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    class Patient(S3FileSystem):  # type: ignore[misc]
        def __reduce__(self) -> tuple[Any, ...]:
            # pyarrow's own forgets the retry strategy
            return _s3, (endpoint, region)

    retries = AwsStandardS3RetryStrategy(max_attempts=_TRIES)
    return Patient(endpoint_override=endpoint, region=region, retry_strategy=retries)
