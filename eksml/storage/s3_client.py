"""Calls to S3: one client a process, retries, and eksml's errors."""

from __future__ import annotations

import functools
import os
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from eksml.errors import InvalidSpec, NotFound, Problem, StorageUnavailable
from eksml.storage.s3_errors import CONFLICT, code_of, translate
from eksml.storage.uri import URI

T = TypeVar("T")

TRIES = 5
"""Times that one call to S3 is made before it counts as failed."""
_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 30
_LONGEST_WAIT_S = 8
_CONNECTIONS = 32
_JITTER = random.SystemRandom()
"""Not the module's own generator: that is a training function's, whose draws must be repeatable."""


class Conflict(Exception):
    """S3 saw two conditional writes at once and took neither; a new try decides."""


def call(uri: URI, request: Callable[[Any], T], *, tries: int = TRIES) -> T:
    """What ``request(client)`` returns, tried again with backoff where that can help."""
    from botocore.exceptions import BotoCoreError, ClientError

    endpoint = ""
    attempt = 1
    while True:
        try:
            client = _client()
            endpoint = client.meta.endpoint_url
            return request(client)
        except (BotoCoreError, ClientError) as error:
            if code_of(error) in CONFLICT:
                raise Conflict from error
            failure = translate(error, uri, tries=attempt, endpoint=endpoint)
            if attempt == tries or not isinstance(failure, StorageUnavailable):
                raise failure from error
        wait(attempt)
        attempt += 1


def wait(attempt: int) -> None:
    """Exponential backoff with jitter, so that many writers do not come back all at once."""
    time.sleep(_JITTER.uniform(0.5, 1) * min(_LONGEST_WAIT_S, 0.5 * 2 ** (attempt - 1)))


def _client() -> Any:
    # boto3 reads these when a client is made: a change of them, or a fork, needs a new client.
    # Only their hash is kept, lest a traceback that shows variables shows a secret.
    environment = hash(tuple(item for item in os.environ.items() if item[0].startswith("AWS_")))
    return _new_client(os.getpid(), environment)


@functools.lru_cache(maxsize=4)
def _new_client(pid: int, environment: int) -> Any:
    import boto3
    from botocore.config import Config

    own_server = any(name.startswith("AWS_ENDPOINT_URL") for name in os.environ)
    config = Config(
        retries={"total_max_attempts": 1},  # call counts the tries, of reading the body as well
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        max_pool_connections=_CONNECTIONS,
        tcp_keepalive=True,
        response_checksum_validation="when_required",  # eksml.storage.commit verifies with SHA-256
        s3={"addressing_style": "path" if own_server else "auto"},
    )
    try:
        # The default session is shared and not safe for threads
        return boto3.session.Session().client("s3", config=config)
    except ValueError as error:
        problem = Problem("AWS_ENDPOINT_URL", str(error), "Write it as http://host:port.")
        raise InvalidSpec([problem], "the AWS environment") from error


def address(uri: URI) -> dict[str, str]:
    """The parameters that name an object in a call."""
    if not uri.key:
        raise NotFound(f"{uri} is a bucket, not a file. Add a name.")
    return {"Bucket": uri.bucket, "Key": uri.key}
