"""Clients of AWS, and the one place where their errors become eksml's."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eksml.errors import ClusterError, ClusterInUse, ClusterNotUp, InvalidSpec, Problem

_ATTEMPTS = 4
_CONNECT_S = 5
_READ_S = 30

_DENIED = ("AccessDenied", "UnauthorizedOperation", "NotAuthorized", "Forbidden")
_WHO = (
    "ExpiredToken",
    "InvalidClientTokenId",
    "UnrecognizedClient",
    "InvalidSignature",
    "AuthFail",
)
_MISSING = ("ResourceNotFound", "NoSuch", "NotFound")
_THERE_ALREADY = ("ResourceInUse", "AlreadyExists", "Duplicate", "ResourcePropagation")
_LIMITED = ("LimitExceeded", "QuotaExceeded")
_WRONG = ("InvalidParameter", "InvalidRequest", "Validation", "InvalidParam", "MissingParam")
_BUSY = ("Throttl", "TooManyRequests", "RequestLimitExceeded", "ServerException", "Unavailable")


def client(service: str, region: str | None) -> Any:
    """A client of one service; ``region`` None: the one that AWS' own variables say.

    Throttling and broken connections are repeated by botocore's standard mode. Endpoints come
    from AWS' own variables (``AWS_ENDPOINT_URL_EKS`` and so on).

    Raises:
        ClusterError: no region is known, or the configuration is wrong.
    """
    import boto3
    import botocore.session
    from botocore.config import Config

    config = Config(
        connect_timeout=_CONNECT_S,
        read_timeout=_READ_S,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
    )
    with translated(f"{service} in {region or 'the default region'}"):
        # A session of its own: the default one is not safe to share between threads
        core = botocore.session.get_session()
        core.register_component("data_loader", _loader())
        session: Any = boto3.session.Session(botocore_session=core)
        return session.client(service, region_name=region, config=config)


@functools.cache
def _loader() -> Any:
    """Keeps the services' descriptions, which take 0.15 s to read for EC2."""
    from botocore import loaders

    return loaders.create_loader()


@contextmanager
def translated(what: str) -> Iterator[None]:
    """botocore's errors become eksml's: ``what`` is being asked for or made.

    Raises:
        ClusterNotUp: there is no such thing.
        ClusterInUse: it exists already.
        InvalidSpec: AWS does not take the request.
        ClusterError: everything else: credentials, permissions, quotas, no answer.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        raise _of_aws(error, what) from error
    except (BotoCoreError, ResponseParserError) as error:
        raise _of_botocore(error, what) from error


def _of_aws(error: Any, what: str) -> Exception:
    """AWS answered, and said no."""
    told = error.response.get("Error", {})
    code, message = str(told.get("Code", "")), str(told.get("Message") or error).rstrip(".")
    said = f"{what}: {message} ({code})."
    if _any(code, _DENIED):
        asked = error.operation_name
        return ClusterError(f"{said} Allow {asked} to the role or user that asks.")
    if _any(code, _WHO):
        return ClusterError(f"{said} Sign in again: `aws sts get-caller-identity` tells who asks.")
    if _any(code, _LIMITED):
        return ClusterError(f"{said} Ask for more in Service Quotas.")
    if _any(code, _THERE_ALREADY):
        return ClusterInUse(f"{said} Choose another name, or delete it.")
    if _any(code, _MISSING):
        return ClusterNotUp(f"{said} Are name, region and account right?")
    if _any(code, _WRONG):
        return InvalidSpec([Problem(what, f"{message} ({code}).")], subject="the request to AWS")
    if _any(code, _BUSY):
        return ClusterError(f"{said} AWS is busy; try again.")
    return ClusterError(said)


def _of_botocore(error: Exception, what: str) -> ClusterError:
    """AWS was not asked, or did not answer."""
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
        remedy = "`aws configure sso`, or set AWS_PROFILE."
    elif isinstance(error, exceptions.NoRegionError):
        remedy = "Set AWS_REGION."
    elif isinstance(error, ResponseParserError):
        remedy = "Something that is not AWS answers there; a proxy?"
    elif isinstance(error, (exceptions.ConnectionError, exceptions.HTTPClientError)):
        remedy = "Is the network reachable, and is the region right?"
    else:
        remedy = "Is AWS configured? `aws sts get-caller-identity` tells."
    said = str(error).partition("\n")[0].rstrip(".")
    return ClusterError(f"{what}: {said}. {remedy}")


def _any(code: str, beginnings: tuple[str, ...]) -> bool:
    return any(beginning in code for beginning in beginnings)
