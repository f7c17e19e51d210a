"""How the aggregate of one key and window is made, fed, merged and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from eksml.errors import CallError
from eksml.streams.batch import Event
from eksml.streams.operators.aggregates import Accumulator, Aggregate


class Maker(Protocol):
    """How aggregates of one key are made, fed, merged and read. Their attributes are JSON."""

    def new(self) -> Any: ...

    def add(self, aggregate: Any, event: Event, time: int) -> None: ...

    def merge(self, aggregate: Any, other: Any) -> None:
        """Take ``other`` in, without changing it."""

    def result(self, aggregate: Any) -> Mapping[str, Any]: ...

    def load(self, attributes: dict[str, Any]) -> Any: ...


class ClassMaker:
    """Of a class of the user's."""

    def __init__(self, kind: type, step: str) -> None:
        self._kind = kind
        self._step = step

    def new(self) -> Any:
        return self._kind()

    def add(self, aggregate: Any, event: Event, time: int) -> None:
        aggregate.add(event)

    def merge(self, aggregate: Any, other: Any) -> None:
        aggregate.merge(other)

    def result(self, aggregate: Any) -> Mapping[str, Any]:
        value = aggregate.result()
        if not isinstance(value, Mapping):
            raise CallError(
                f"{self._step}: {self._kind.__name__}.result() returned {type(value).__name__}; "
                "it has to return a dictionary."
            )
        return value

    def load(self, attributes: dict[str, Any]) -> Any:
        aggregate: Any = object.__new__(self._kind)
        vars(aggregate).update(attributes)
        return aggregate


class ValuesMaker:
    """Of built-in aggregates."""

    def __init__(self, aggregates: Sequence[Aggregate]) -> None:
        self._aggregates = aggregates

    def new(self) -> Any:
        return Accumulator(self._aggregates)

    def add(self, aggregate: Any, event: Event, time: int) -> None:
        aggregate.add(event, time, self._aggregates)

    def merge(self, aggregate: Any, other: Any) -> None:
        aggregate.merge(other, self._aggregates)

    def result(self, aggregate: Any) -> Mapping[str, Any]:
        found: Mapping[str, Any] = aggregate.results(self._aggregates)
        return found

    def load(self, attributes: dict[str, Any]) -> Any:
        aggregate = Accumulator(())
        vars(aggregate).update(attributes)
        return aggregate
