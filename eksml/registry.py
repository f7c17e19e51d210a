"""Models by name and version or alias, out of MLflow's registry: ``models:/qwen/3``,
``models:/qwen@production``.

Which registry is MLflow's own business: ``MLFLOW_REGISTRY_URI``, else ``MLFLOW_TRACKING_URI``, with
MLflow's variables for credentials. A version is put there by MLflow, too::

    mlflow.MlflowClient().create_model_version("qwen", "s3://bucket/qwen-3")

An alias means what it means at the moment it is looked up. So what is to be computed is looked up
once, where it is asked for, and every worker and replica is told the place.
"""

from __future__ import annotations

import re
from typing import Any

from eksml.errors import InvalidSpec, MissingExtra, NotFound, Problem, StorageUnavailable

_VERSION = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>[0-9]+)|@(?P<alias>[^/@]+))")
_LOGGED = re.compile(r"models:/(?P<id>m-[0-9a-f]+)")
"""What MLflow calls a model that a run has logged, instead of its place."""
_NONE_SUCH = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""MLflow's codes for a name or a version, and for an alias, that it does not have."""


def name_of(source: str) -> str:
    """The last part of a source, or a registered model's name."""
    found = _VERSION.fullmatch(source)
    return found["name"] if found else source.rstrip("/").rpartition("/")[2]


def place_of(source: str) -> str:
    """Where a registered version lies; any other source as it is.

    Raises:
        InvalidSpec: It is not ``models:/NAME/VERSION`` or ``models:/NAME@ALIAS``, or it lies where
            nobody but MLflow's server can read it.
        MissingExtra: MLflow is not installed.
        NotFound: The registry has no such model, version or alias.
        StorageUnavailable: The registry does not answer.
    """
    if not source.startswith("models:/"):
        return source
    asked = _VERSION.fullmatch(source)
    if asked is None:
        remedy = "Write models:/NAME/VERSION or models:/NAME@ALIAS."
        raise InvalidSpec([Problem("source", f"{source!r} names no version.", remedy)], "the model")
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        told = f"MLflow, which is to look {source} up, cannot be imported ({error})."
        raise MissingExtra(f"{told} Install it: pip install 'eksml[registry]'") from error
    client = MlflowClient()
    try:
        place = _place(client, asked)
    except MlflowException as error:
        if error.error_code in _NONE_SUCH:
            raise NotFound(f"The registry has no {source}: {error.message}") from error
        told = f"The registry did not tell where {source} lies: {error.message}"
        raise StorageUnavailable(told) from error
    if place.startswith("mlflow-artifacts:"):
        told = f"{source} lies at {place}, which only MLflow's server can read."
        remedy = "Register a version whose source is a folder or s3://…"
        raise InvalidSpec([Problem("source", told, remedy)], "the model")
    return place


def _place(client: Any, asked: re.Match[str]) -> str:
    name, version = asked["name"], asked["version"]
    if version is None:
        version = client.get_model_version_by_alias(name, asked["alias"]).version
    place = str(client.get_model_version_download_uri(name, version))
    if logged := _LOGGED.fullmatch(place):
        return str(client.get_logged_model(logged["id"]).artifact_location)
    return place
