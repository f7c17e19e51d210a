"""The environment variables that eksml reads, all of them, each with its default and its parser.

AWS's own variables (``AWS_ENDPOINT_URL``, ``AWS_PROFILE``, …) are read by boto3, Ray's by Ray.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Variable(Generic[T]):
    """One environment variable; call it for its present value."""

    name: str
    default: str
    parse: Callable[[str], T]
    doc: str

    def __call__(self) -> T:
        return self.parse(os.environ.get(self.name) or self.default)


def _folder(text: str) -> Path:
    return Path(text).expanduser().absolute()


HOME = Variable("EKSML_HOME", "~/.eksml", _folder, "Folder of local clusters' state and tokens.")
STORAGE = Variable(
    "EKSML_STORAGE",
    "~/.eksml/runs",
    str,
    "Where runs are kept unless a call names a storage: a folder or s3://bucket/prefix.",
)
CLUSTER = Variable(
    "EKSML_CLUSTER",
    "",
    lambda text: text or None,
    "The cluster that the command line uses unless --cluster names one.",
)
ALL: tuple[Variable[object], ...] = (HOME, STORAGE, CLUSTER)  # type: ignore[assignment]
