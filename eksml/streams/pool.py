"""Actors that hold a model for ``infer``. Ray starts a dead one again, and asks it again."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from eksml.errors import StorageError
from eksml.runs.record import ErrorRecord
from eksml.streams.batch import Batch, columns_of, concat_tables, single
from eksml.streams.operators.functions import call, record_batch
from eksml.streams.parcel import Parcel

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.actor import ActorHandle

    from eksml.streams.operators.infer import Infer

_ASK_AGAIN = 10
"""Times that a question is asked again because the actor died: a model only answers, so that it may
be asked twice."""


class Model:
    """The model in an actor: a function, or an object of a class, made once in the actor."""

    def __init__(self, parcel: Parcel) -> None:
        self._spec: Infer = parcel.open()
        model = self._spec.model
        self._model = model() if isinstance(model, type) else model

    def answer(
        self, batch: Batch, tries: int
    ) -> tuple[list[int], pa.RecordBatch, list[tuple[int, ErrorRecord]]]:
        """The events that it bore, by their numbers, its answers, and why it failed on others."""
        import numpy as np
        import pyarrow as pa

        good: list[int] = []
        answers: list[pa.Table] = []
        poison: list[tuple[int, ErrorRecord]] = []
        parts = [np.arange(len(batch))]
        while parts:
            part = parts.pop()
            found = self._try(batch if len(part) == len(batch) else batch.take(part), tries)
            if isinstance(found, pa.RecordBatch):
                good += part.tolist()
                answers.append(pa.Table.from_batches([found]))
            elif len(part) == 1:
                poison.append((int(part[0]), ErrorRecord.of(found)))
            else:
                parts += [part[len(part) // 2 :], part[: len(part) // 2]]
        columns = single(concat_tables(answers)) if answers else columns_of([])
        return good, columns, poison

    def _try(self, batch: Batch, tries: int) -> pa.RecordBatch | Exception:
        last: Exception | None = None
        for _ in range(tries):
            try:
                return self._call(batch)
            except StorageError:  # what it needs is away: no event is to blame
                raise
            except Exception as error:
                last = error
        assert last is not None
        return last

    def _call(self, batch: Batch) -> pa.RecordBatch:
        if self._spec.columns:
            value = call(self._model, batch, self._spec.columns)
        else:
            value = [self._model(event) for event in batch.rows]
        return record_batch(value, len(batch))


def start(spec: Infer) -> tuple[ActorHandle, ...]:
    """The actors of one ``infer`` step, shared by all tasks of the step."""
    import ray

    resources = spec.resources()
    kind = ray.remote(Model).options(
        num_cpus=resources.get("CPU", 0),
        num_gpus=resources.get("GPU", 0),
        max_restarts=-1,
        max_task_retries=_ASK_AGAIN,
    )
    parcel = Parcel.of(spec)
    return tuple(kind.remote(parcel) for _ in range(spec.replicas))


def stop(pools: Mapping[str, tuple[ActorHandle, ...]]) -> None:
    """End the actors of all steps."""
    import ray

    for actor in itertools.chain.from_iterable(pools.values()):
        with contextlib.suppress(Exception):
            ray.kill(actor)
