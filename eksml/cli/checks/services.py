"""Checks of what is reached over the network: storage, AWS, Kubernetes."""

from __future__ import annotations

import os
import time

from eksml import env
from eksml.cli.checks.finding import Check, Finding
from eksml.errors import StorageError
from eksml.storage import URI

_CONNECT_S = 1
_READ_S = 2
_NOT_LOCAL = "Only S3 and EKS need it."


def reachable(storage: str | None) -> tuple[Check, ...]:
    """The checks; ``storage`` is looked at in place of the default one."""
    return (
        Check("storage", lambda: _storage(storage or env.STORAGE())),
        Check("AWS", aws, unanswered="warn"),
        Check("Kubernetes", kubernetes, unanswered="warn"),
    )


def _storage(place: str) -> Finding:
    """Whether runs can be kept there: reached, written, read and deleted."""
    uri = URI.parse(place)
    began = time.monotonic()
    try:
        uri.check_writable()
    except StorageError as error:
        return Finding("fail", str(error), "Or set EKSML_STORAGE to another place.")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    through = f" through {endpoint}" if uri.scheme == "s3" and endpoint else ""
    return Finding("ok", f"{uri}{through} is writable ({time.monotonic() - began:.2f} s)")


def aws() -> Finding:
    """Who we are at AWS."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    session = boto3.Session()
    if session.get_credentials() is None:
        return Finding("warn", "no credentials", f"{_NOT_LOCAL} `aws configure sso`, or set them.")
    region = session.region_name
    config = Config(
        connect_timeout=_CONNECT_S, read_timeout=_READ_S, retries={"total_max_attempts": 1}
    )
    try:
        sts = session.client("sts", region_name=region or "us-east-1", config=config)
        arn = sts.get_caller_identity()["Arn"]
    except (BotoCoreError, ClientError) as error:
        return Finding("warn", f"no identity: {error}", f"{_NOT_LOCAL} Are credentials expired?")
    if region is None:
        return Finding("warn", f"{arn}, no region", "Set AWS_REGION.")
    return Finding("ok", f"{arn}, {region}")


def kubernetes() -> Finding:
    """Which Kubernetes cluster we would talk to, and whether it answers."""
    from kubernetes import config

    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        config.load_incluster_config()
        return _api_server("this pod's service account")
    files = os.path.expanduser(os.environ.get("KUBECONFIG") or "~/.kube/config")
    if not any(os.path.isfile(file) for file in files.split(os.pathsep)):
        return Finding(
            "warn", "no kubeconfig", f"{_NOT_LOCAL} `aws eks update-kubeconfig --name CLUSTER`."
        )
    _, active = config.list_kube_config_contexts(files)
    config.load_kube_config(files)
    return _api_server(f"context {active['name']}")


def _api_server(who: str) -> Finding:
    from kubernetes import client
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        version = client.VersionApi().get_code(_request_timeout=(_CONNECT_S, _READ_S))
    except (ApiException, HTTPError) as error:
        said = str(error).splitlines()[0]
        return Finding("warn", f"{who}: {said}", "`kubectl version` should answer first.")
    return Finding("ok", f"{who}, Kubernetes {version.git_version}")
