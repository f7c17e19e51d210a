"""The record of a run: one JSON object, ``run.json``, that says what it is and how it stands."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import eksml
from eksml.errors import Damaged, InvalidSpec, NotFound, Problem, RunNotFound
from eksml.storage import URI

SCHEMA_VERSION: Literal[1] = 1
RECORD = "run.json"
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")

State = Literal["pending", "running", "succeeded", "failed", "cancelled", "interrupted"]
ENDED: frozenset[State] = frozenset({"succeeded", "failed", "cancelled", "interrupted"})


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ErrorRecord(_Frozen):
    """What ended a run: the exception as its user should see it."""

    type: str
    """Qualified name of the exception's class."""
    message: str
    traceback: str
    """Starts at the user's own code; frames of eksml and Ray before it are left out."""
    rank: int | None = None
    step: int | None = None

    @classmethod
    def of(
        cls, error: BaseException, *, rank: int | None = None, step: int | None = None
    ) -> ErrorRecord:
        """The record of an exception that was just caught."""
        kind = type(error)
        name = kind.__qualname__
        if kind.__module__ != "builtins":
            name = f"{kind.__module__}.{name}"
        shown = traceback.format_exception(kind, error, user_frames(error.__traceback__))
        return cls(
            type=name, message=str(error), traceback="".join(shown).rstrip(), rank=rank, step=step
        )


class Versions(_Frozen):
    """What the run was started with."""

    eksml: str
    python: str
    ray: str | None = None
    torch: str | None = None

    @classmethod
    def here(cls) -> Versions:
        """Of this process. Reads installed metadata and imports nothing."""
        return cls(
            eksml=eksml.__version__,
            python=platform.python_version(),
            ray=_version("ray"),
            torch=_version("torch"),
        )


class RunRecord(_Frozen):
    """The state of a run as its owner last wrote it. Times are seconds since the epoch."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    verb: str
    """``train``, ``batch``, ``stream`` or ``serve``."""
    entry: str
    """Qualified name of the user's function."""
    state: State = "pending"
    created_s: float = Field(default_factory=time.time)
    started_s: float | None = None
    ended_s: float | None = None
    attempt: int = 0
    """Number of the attempt that owns the run; 0 before the first."""
    restarts: int = 0
    """How often its workers were started again after a failure, over all attempts."""
    cluster: str | None = None
    """Name or address of the cluster; None for the caller's own Ray."""
    job_id: str | None = None
    """Submission id at the cluster's Jobs API."""
    versions: Versions
    config: dict[str, Any] = {}
    """The user's configuration as JSON, for people to read."""
    spec: dict[str, Any] = {}
    """The verb's own job as JSON."""
    error: ErrorRecord | None = None
    stop: str | None = None
    """Why it was stopped before its end: ``cancel``, ``deadline`` or ``budget``."""
    deadline_s: float | None = None
    """Seconds after the start of an attempt at which it is stopped at a checkpoint."""
    budget_node_hours: float | None = None
    """Node-hours, over all attempts, after which the run is stopped at a checkpoint."""

    def with_changes(self, **changes: Any) -> RunRecord:
        """A changed copy, checked like a new one."""
        return RunRecord.model_validate({**self.model_dump(), **changes})


def read_record(run: URI) -> RunRecord:
    """The record in a run's folder.

    Raises:
        RunNotFound: There is none.
        Damaged: It is not a record, or of a newer schema than this eksml knows.
    """
    uri = run / RECORD
    try:
        value = uri.read_json()
    except NotFound as error:
        raise RunNotFound(f"There is no run at {run}: {RECORD} is missing.") from error
    if isinstance(value, dict) and value.get("schema_version", 1) != SCHEMA_VERSION:
        raise Damaged(
            f"{uri} has schema_version {value['schema_version']!r}; this eksml "
            f"{eksml.__version__} reads {SCHEMA_VERSION}. Use the version that wrote it."
        )
    try:
        return RunRecord.model_validate(value)
    except ValidationError as error:
        raise Damaged(f"{uri} is not a run's record: {_first(error)}") from error


def write_record(run: URI, record: RunRecord, *, if_absent: bool = False) -> None:
    """Replace the record atomically.

    Raises:
        AlreadyExists: ``if_absent`` and there is one already.
    """
    (run / RECORD).write_json(record.model_dump(), if_absent=if_absent)


def name_problem(name: Any) -> Problem | None:
    """What is wrong with a run's name, if anything: it becomes a folder and a job id."""
    if isinstance(name, str) and NAME.fullmatch(name):
        return None
    return Problem(
        "name",
        f"{name!r} is not a name for a run.",
        "Use 1 to 63 letters, digits, '.', '_' or '-', with a letter or digit at both ends.",
    )


def check_name(name: str) -> None:
    """Raises InvalidSpec for what :func:`name_problem` finds."""
    problem = name_problem(name)
    if problem:
        raise InvalidSpec([problem], "the run")


def json_view(value: Any) -> Any:
    """A value as JSON for people to read: what JSON cannot hold appears as its ``repr``."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): json_view(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_view(item) for item in value]
    return repr(value)


def user_frames(where: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of eksml and installed packages that come before the user's.

    If there is no user's frame, the whole traceback.
    """
    first = where
    while first is not None and _is_library(first.tb_frame.f_code.co_filename):
        first = first.tb_next
    return first or where


def _is_library(filename: str) -> bool:
    parts = Path(filename).parts
    inside = Path(filename).is_relative_to(Path(eksml.__file__).parent)
    return inside or "site-packages" in parts or filename.startswith("<frozen ")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'value'}: {problem['msg']}"
