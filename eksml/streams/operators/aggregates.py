"""Built-in aggregates: what is kept of many events, in columns, and how it is put together.

A *partial* is a table with a row for each key: the key columns, ``__pane`` and ``__group``, and
the columns that each aggregate needs. Partials of the same keys merge into one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eksml.errors import CallError, Problem

if TYPE_CHECKING:
    import pyarrow as pa

FUNCTIONS = ("count", "sum", "min", "max", "mean", "first", "last")
"""``first`` and ``last`` go by event time. Nulls are left out; ``count`` alone counts events."""
PANE, GROUP, TIME = "__pane", "__group", "__time"


@dataclass(frozen=True)
class Aggregate:
    """One output column."""

    name: str
    function: str
    column: str | None
    """The input; None for the count of events."""

    @property
    def parts(self) -> tuple[tuple[str, str, str], ...]:
        """What it keeps: ``(column, how events are put together, how partials are)``."""
        both = {
            "count": ((f"{self.name}.n", "count", "sum"),),
            "mean": ((f"{self.name}.s", "sum", "sum"), (f"{self.name}.n", "count", "sum")),
        }
        plain = ((f"{self.name}.v", self.function, self.function),)
        return both.get(self.function, plain)


def parse(given: Mapping[str, Any]) -> tuple[Aggregate, ...]:
    """``{"total": ("amount", "sum"), "events": "count"}`` as aggregates; it was checked."""
    return tuple(
        Aggregate(name, how, None) if isinstance(how, str) else Aggregate(name, how[1], how[0])
        for name, how in given.items()
    )


def aggregate_problems(path: str, given: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with aggregates that a user gave."""
    remedy = 'Write {"total": ("amount", "sum"), "events": "count"}.'
    if not given:
        yield Problem(path, "names no aggregate.", remedy)
    for name, how in given.items():
        if how == "count":
            continue
        if not (isinstance(how, tuple | list) and len(how) == 2 and isinstance(how[0], str)):
            yield Problem(f"{path}.{name}", f"{how!r:.60} is no (column, function).", remedy)
        elif how[1] not in FUNCTIONS:
            functions = ", ".join(FUNCTIONS)
            yield Problem(
                f"{path}.{name}", f"{how[1]!r:.40} is no function.", f"There are: {functions}."
            )


class Aggregator:
    """Makes partials of events, merges partials and gives results. Pure; holds no events."""

    def __init__(self, aggregates: Sequence[Aggregate], keys: Sequence[str]) -> None:
        self._aggregates = tuple(aggregates)
        self._by = [*keys, PANE]
        self._keys = list(keys)
        self.columns = sorted({each.column for each in aggregates if each.column is not None})
        """Columns of events that are needed."""
        self._ordered = [each for each in aggregates if each.function in ("first", "last")]

    def partial(self, events: pa.Table) -> pa.Table:
        """The partial of events: the key columns, :attr:`columns`, and the three hidden ones.

        Raises:
            CallError: A column cannot be aggregated like that.
        """
        names: list[tuple[str, str, str]] = [(GROUP, "min", GROUP)]
        for each in self._aggregates:
            for part, how, _ in each.parts:
                names.append((each.column or GROUP, how, part))
        for each in self._ordered:
            names.append((TIME, _extreme(each), f"{each.name}.t"))
        if self._ordered:
            events = events.sort_by(TIME)
        return self._group(events, names)

    def merge(self, partials: pa.Table) -> pa.Table:
        """One row a key and pane."""
        merged = self._group(partials, self._merging(self._aggregates))
        for each in self._ordered:  # again by its own times
            ordered = self._group(partials.sort_by(f"{each.name}.t"), self._merging([each]))
            merged = merged.drop_columns([f"{each.name}.v", f"{each.name}.t"]).join(
                ordered.drop_columns([GROUP]), self._by, use_threads=False
            )
        return merged

    def _merging(self, aggregates: Sequence[Aggregate]) -> list[tuple[str, str, str]]:
        names = [(GROUP, "min", GROUP)]
        for each in aggregates:
            names += [(part, how, part) for part, _, how in each.parts]
            if each in self._ordered:
                names.append((f"{each.name}.t", _extreme(each), f"{each.name}.t"))
        return names

    def results(self, merged: pa.Table) -> pa.Table:
        """The key columns and a column for each aggregate."""
        import pyarrow as pa
        import pyarrow.compute as pc

        columns = {name: merged.column(name) for name in self._keys}
        for each in self._aggregates:
            [first, *rest] = [merged.column(part) for part, _, _ in each.parts]
            if rest:
                first = pc.divide(first.cast(pa.float64()), rest[0].cast(pa.float64()))
            columns[each.name] = first
        return pa.table(columns)

    def _group(self, table: pa.Table, names: Sequence[tuple[str, str, str]]) -> pa.Table:
        import pyarrow as pa

        wanted = [(column, how) for column, how, _ in names]
        try:
            # One thread: «first» needs the order, and the other cores have work of their own
            grouped = table.group_by(self._by, use_threads=False).aggregate(wanted)
        except (pa.ArrowException, KeyError) as error:
            raise CallError(f"the events cannot be aggregated: {error}") from error
        return grouped.rename_columns([*self._by, *(name for _, _, name in names)])


def _extreme(each: Aggregate) -> str:
    return "min" if each.function == "first" else "max"


class Accumulator:
    """The same aggregates of one key, in Python: for windows whose bounds the events decide.

    Its attributes are what a checkpoint holds.
    """

    def __init__(self, aggregates: Sequence[Aggregate]) -> None:
        self.values: dict[str, list[Any]] = {each.name: [] for each in aggregates}

    def add(self, event: Mapping[str, Any], time: int, aggregates: Sequence[Aggregate]) -> None:
        """Take one event in."""
        for each in aggregates:
            value = 1 if each.column is None else event.get(each.column)
            if value is not None:
                one = {"count": [1], "mean": [value, 1]}.get(each.function)
                timed = each.function in ("first", "last")
                self._put(each, one or ([value, time] if timed else [value]))

    def merge(self, other: Accumulator, aggregates: Sequence[Aggregate]) -> None:
        """Take in what another one took in."""
        for each in aggregates:
            if other.values[each.name]:
                self._put(each, other.values[each.name])

    def results(self, aggregates: Sequence[Aggregate]) -> dict[str, Any]:
        """A value for each aggregate; of no event at all: None, or 0 for a count."""
        found: dict[str, Any] = {}
        for each in aggregates:
            values = self.values[each.name]
            empty = 0 if each.function == "count" else None
            mean = each.function == "mean" and values
            found[each.name] = values[0] / values[1] if mean else (values or [empty])[0]
        return found

    def _put(self, each: Aggregate, new: list[Any]) -> None:
        old = self.values[each.name]
        if not old:
            self.values[each.name] = list(new)
        elif each.function in ("count", "sum", "mean"):
            self.values[each.name] = [a + b for a, b in zip(old, new, strict=True)]
        elif each.function in ("min", "max"):
            self.values[each.name] = [(min if each.function == "min" else max)(old[0], new[0])]
        elif (new[1] < old[1]) if each.function == "first" else (new[1] >= old[1]):
            self.values[each.name] = list(new)
