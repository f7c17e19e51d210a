"""An application of Ray Serve that runs beside the batch, as a model: one call a row."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from eksml.batches.blocks import INTERNAL
from eksml.batches.models.arrays import to_arrow
from eksml.batches.models.backoff import delay_s
from eksml.batches.models.base import Outcome, Sizing
from eksml.batches.models.columns import as_names, missing
from eksml.batches.models.isolation import WrongResult
from eksml.batches.models.row_tasks import RowFailed, RowTasks
from eksml.cluster.problems import Spec
from eksml.errors import InvalidSpec, Problem, tell

if TYPE_CHECKING:
    import pyarrow as pa

MIN_ROWS_PER_BLOCK = 64
THREADS = 4
DEFAULT_OUTPUT = "output"


class ServeApp(Spec):
    """Which deployment is called, and how. Made by :func:`serve_app`."""

    app: str = Field(min_length=1)
    """The application's name."""
    deployment: str | None = None
    """One of its deployments; its ingress unless given."""
    method: str = "__call__"
    """Of the deployment; it is given the row, a dictionary."""
    columns: tuple[str, ...] | None = None
    """The columns that it is given; all unless said."""
    output: str = Field(default=DEFAULT_OUTPUT, min_length=1)
    """Name of the new column, where it returns no dictionary."""
    max_in_flight: int = Field(default=32, ge=1, le=10_000)
    """Calls that each worker has under way."""
    retries: int = Field(default=5, ge=0, le=100)
    """Times that one row is asked for again."""
    timeout_s: float = Field(default=120.0, gt=0)
    """For one call."""

    def describe(self) -> dict[str, Any]:
        """What decides on the output."""
        fields = {"app", "deployment", "method", "columns", "output"}
        return {"kind": "serve", "name": self.app, **self.model_dump(mode="json", include=fields)}

    def check(self, schema: pa.Schema) -> list[Problem]:
        """Columns that are missing. Asks no server."""
        return list(missing(self.columns or (), schema, "columns"))

    def sizing(self) -> Sizing:
        """A worker waits most of its time."""
        return Sizing({"CPU": 0.5}, 2 * self.max_in_flight, MIN_ROWS_PER_BLOCK, max_workers=1)

    def load(self) -> LoadedServeApp:
        """Find the application.

        Raises:
            InvalidSpec: No such application or deployment runs.
        """
        return LoadedServeApp(self)


def serve_app(
    app: str,
    *,
    deployment: str | None = None,
    method: str = "__call__",
    columns: str | Iterable[str] | None = None,
    output: str = DEFAULT_OUTPUT,
    max_in_flight: int = 32,
    retries: int = 5,
    timeout_s: float = 120.0,
) -> ServeApp:
    """An application of Ray Serve, on the same Ray, as a model: a call a row.

    >>> serve_app("classifier", columns=["text"])                           # doctest: +SKIP

    The deployment's method is given each row as a dictionary of Python values, and returns a
    dictionary of new columns, or one value. What it raises makes that row an error, at once; a
    replica that dies or has no room, or an answer that does not come, is tried again.

    Args:
        app: The application's name.
        deployment: One of its deployments; its ingress unless given.
        method: Of the deployment.
        columns: What it is given; everything unless said.
        output: Name of the new column, where it returns no dictionary.
        max_in_flight: Calls that each worker has under way.
        retries: Times that one row is asked for again.
        timeout_s: For one call.

    Raises:
        InvalidSpec: With everything that is wrong.
    """
    return ServeApp(
        app=app,
        deployment=deployment,
        method=method,
        columns=as_names(columns),
        output=output,
        max_in_flight=max_in_flight,
        retries=retries,
        timeout_s=timeout_s,
    )


class LoadedServeApp:
    """A handle in a worker. See :class:`eksml.batches.models.base.Loaded`.

    Raises:
        InvalidSpec: No such application or deployment runs.
    """

    threads = THREADS

    def __init__(self, model: ServeApp) -> None:
        began = time.perf_counter()
        self._model = model
        self._call = _method(model)
        self._rows = RowTasks(model.max_in_flight)
        self._load_s = time.perf_counter() - began

    def compute(self, table: pa.Table) -> Outcome:
        """Call it for each row.

        Raises:
            WrongResult: What it returned for some rows does not go with that for others.
        """
        names = self._model.columns or [name for name in table.column_names if name not in INTERNAL]
        answers = self._rows.run(self._answer, table.select(names).to_pylist())
        errors = {row: str(it) for row, it in enumerate(answers) if isinstance(it, RowFailed)}
        return Outcome(_columns(answers, self._model.output), errors)

    def busy(self) -> dict[str, float]:
        """Seconds of loading and of waiting for answers, and how full the slots were."""
        return {"load_s": self._load_s, **self._rows.busy()}

    def close(self) -> None:
        """End the thread."""
        self._rows.close()

    async def _answer(self, row: dict[str, Any]) -> Any:
        for tries in range(1, self._model.retries + 2):
            response = self._call.remote(row)
            try:
                async with asyncio.timeout(self._model.timeout_s):
                    return await response
            except TimeoutError:
                response.cancel()
                told = f"No answer within {self._model.timeout_s:g} s"
            except Exception as error:
                told = tell(error)
                if not _passing(error):
                    raise RowFailed(_raised(error)) from error
            await asyncio.sleep(delay_s(tries, random.random()))
        raise RowFailed(f"{told} (after {tries} tries)")


def _method(model: ServeApp) -> Any:
    from ray import serve
    from ray.serve.exceptions import RayServeException

    try:
        handle = (
            serve.get_app_handle(model.app)
            if model.deployment is None
            else serve.get_deployment_handle(model.deployment, model.app)
        )
    except (RayServeException, KeyError) as error:  # no such application, no such deployment
        running = ", ".join(sorted(serve.status().applications)) or "none"
        told = f"{model.app!r} does not run on this Ray; what runs: {running}."
        raise InvalidSpec([Problem("app", told, "Deploy it first.")], "serve_app") from error
    return handle if model.method == "__call__" else getattr(handle, model.method)


def _passing(error: Exception) -> bool:
    """Whether it is the replica's fault and not the row's."""
    from ray.exceptions import RayActorError
    from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

    return isinstance(error, RayActorError | BackPressureError | DeploymentUnavailableError)


def _raised(error: Exception) -> str:
    """What the deployment raised, without Ray's traceback."""
    cause = getattr(error, "cause", None)
    return tell(cause if isinstance(cause, BaseException) else error)


def _columns(answers: list[Any], output: str) -> pa.Table:
    import pyarrow as pa

    rows: list[Mapping[str, Any] | None] = [
        None if isinstance(it, RowFailed) else it if isinstance(it, Mapping) else {output: it}
        for it in answers
    ]
    names = dict.fromkeys(name for row in rows if row is not None for name in row)
    columns = {}
    for name in names:
        values = [None if row is None else row.get(name) for row in rows]
        try:
            columns[name] = to_arrow(values)
        except (TypeError, ValueError, pa.ArrowException) as error:
            told = f"Column {name!r} of what it returned: {tell(error)}"
            raise WrongResult([Problem("app", told)], "serve_app") from error
    return pa.table(columns) if columns else pa.table({"": pa.nulls(len(rows))}).select([])
