"""What botocore raises, told as eksml's errors, in this one place.

Messages are built from codes and names only: what S3 or botocore say may hold keys and signatures.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from eksml.errors import AccessDenied, AlreadyExists, NotFound, StorageError, StorageUnavailable
from eksml.storage.uri import URI

NO_BUCKET = frozenset({"NoSuchBucket"})
ABSENT = frozenset({"NoSuchKey", "NoSuchUpload", "NotFound", "404"})
EXISTS = frozenset({"PreconditionFailed", "412"})
CONFLICT = frozenset({"ConditionalRequestConflict", "OperationAborted", "409"})
DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AccountProblem",
        "AllAccessDisabled",
        "ExpiredToken",
        "ExpiredTokenException",
        "Forbidden",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidToken",
        "NotSignedUp",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
        "401",
        "403",
    }
)
BUSY = frozenset(
    {
        "BadDigest",  # damaged on the way; the next try sends the bytes again
        "IncompleteBody",
        "InternalError",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "429",
    }
)
NO_CREDENTIALS = frozenset(
    {
        "ConfigParseError",
        "CredentialRetrievalError",
        "InvalidConfigError",
        "LoginRefreshRequired",
        "MissingDependencyException",
        "NoAuthTokenError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "RefreshWithMFAUnsupportedError",
        "SSOError",
        "SSOTokenLoadError",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
    }
)
UNREACHABLE = frozenset(
    {
        "ChecksumError",
        "ConnectionError",
        "EndpointConnectionError",
        "HTTPClientError",
        "IncompleteReadError",
        "ResponseParserError",
        "ResponseStreamingError",
    }
)
_SIGN_IN = (
    "On a laptop sign in with `aws configure` or `aws sso login`; on EKS give the service account "
    "a role by Pod Identity."
)


def translate(error: Exception, uri: URI, *, tries: int, endpoint: str) -> StorageError:
    """The eksml error for what botocore raised while it worked on ``uri``."""
    code = code_of(error)
    status = status_of(error)
    if code in NO_BUCKET:
        return NotFound(
            f"The bucket {uri.bucket!r} does not exist. Create it, or correct the location {uri}."
        )
    if code in ABSENT:
        return NotFound(f"There is no object {uri}.")
    if code in EXISTS:
        return AlreadyExists(f"{uri} exists already.")
    if code in CONFLICT or code in BUSY or status >= 500 or kinds_of(error) & UNREACHABLE:
        return StorageUnavailable(
            f"S3 at {host_of(endpoint)} did not complete a request on {uri} in {tries} "
            f"{'try' if tries == 1 else 'tries'}: {code}. Check the endpoint and the network, "
            "or try again later."
        )
    if code in DENIED or status in (401, 403):
        return AccessDenied(f"S3 refused access to {uri}: {code}. {_remedy(code, uri)}")
    if kinds_of(error) & NO_CREDENTIALS:
        return AccessDenied(f"No valid AWS credentials for {uri}: {code}. {_SIGN_IN}")
    return StorageError(f"S3 at {host_of(endpoint)} refused a request on {uri}: {code}.")


def code_of(error: Exception) -> str:
    """S3's error code, or the exception's name where S3 did not answer."""
    answer: dict[str, Any] = getattr(error, "response", None) or {}
    return str(answer.get("Error", {}).get("Code") or type(error).__name__)


def status_of(error: Exception) -> int:
    """The HTTP status of S3's answer; 0 where S3 did not answer."""
    answer: dict[str, Any] = getattr(error, "response", None) or {}
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def kinds_of(error: Exception) -> set[str]:
    """The names of the exception's class and of those above it."""
    return {kind.__name__ for kind in type(error).__mro__}


def host_of(endpoint: str) -> str:
    """The endpoint without a user name or password that it may hold."""
    return urlsplit(endpoint).netloc.rpartition("@")[2] or "an unknown endpoint"


def _remedy(code: str, uri: URI) -> str:
    if code == "RequestTimeTooSkewed":
        return "Set this machine's clock."
    if code in ("AccessDenied", "AllAccessDisabled", "Forbidden", "403"):
        return (
            "Give this identity s3:GetObject, s3:PutObject, s3:DeleteObject, s3:ListBucket, "
            "s3:AbortMultipartUpload and s3:ListBucketMultipartUploads on "
            f"{uri.bucket!r}; `aws sts get-caller-identity` shows who it is."
        )
    return f"The credentials are wrong or have expired. {_SIGN_IN}"
