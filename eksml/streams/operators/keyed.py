"""State by key as Python values, and its way into checkpoints: JSON, never pickle."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from eksml.errors import UnsupportedState
from eksml.streams.batch import Batch, Event, array, values_of
from eksml.streams.operators.aggregates import GROUP

if TYPE_CHECKING:
    import pyarrow as pa

Key: TypeAlias = tuple[Any, ...]
"""The values of the key columns."""

_VALUE = "__value"


class KeyedState:
    """A value for each key; what changed since the last snapshot is known.

    ``encode`` and ``decode`` turn a value into JSON values and back.
    """

    def __init__(
        self,
        step: str,
        encode: Callable[[Any], Any] = lambda value: value,
        decode: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        self._step = step
        self._encode = encode
        self._decode = decode
        self._values: dict[Key, Any] = {}
        self._groups: dict[Key, int] = {}
        self._changed: dict[Key, int] = {}

    def get(self, key: Key) -> Any:
        """The key's value; None if it has none."""
        return self._values.get(key)

    def set(self, key: Key, value: Any, group: int) -> None:
        """Give the key a value; also to be called when it was changed in place."""
        self._values[key] = value
        self._groups[key] = group
        self._changed[key] = group

    def fold(
        self,
        keys: Sequence[Key],
        groups: Sequence[int],
        events: Sequence[Event],
        step: Callable[[Any, Event], Any],
    ) -> tuple[list[Any], list[tuple[int, Exception]]]:
        """Give each event's key the value ``step(value or None, event)``, one after another.

        Returns:
            The values after each event that ``step`` bore; and the others' places and errors.
        """
        found: list[Any] = []
        failed: list[tuple[int, Exception]] = []
        values, append = self._values, found.append
        turn = zip(keys, events, strict=True)
        going = True
        while going:
            try:
                for key, event in turn:
                    value = values[key] = step(values.get(key), event)
                    append(value)
                going = False
            except Exception as error:
                failed.append((len(found) + len(failed), error))
        touched = dict(zip(keys, groups, strict=True))
        if failed:
            touched = {key: group for key, group in touched.items() if key in values}
        self._groups.update(touched)
        self._changed.update(touched)
        return found, failed

    def delete(self, key: Key) -> None:
        """The key has no value any more."""
        del self._values[key]
        self._changed[key] = self._groups.pop(key)

    def items(self) -> Iterable[tuple[Key, Any]]:
        return self._values.items()

    def group(self, key: Key) -> int:
        return self._groups[key]

    def __len__(self) -> int:
        return len(self._values)

    def snapshot(self, full: bool) -> pa.Table | None:
        """A row for each key that changed, or has a value at all; a null value means deleted.

        Raises:
            UnsupportedState: A value is no JSON; names the step and the key.
        """
        import pyarrow as pa

        rows = self._groups if full else self._changed
        self._changed = {}
        if not rows:
            return None
        keys = list(rows)
        columns = {GROUP: pa.array(list(rows.values()), pa.uint8())}
        for position in range(len(keys[0])):
            name = f"key{position}"
            columns[name] = array([key[position] for key in keys], name)
        texts = [self._text(key) if key in self._values else None for key in keys]
        return pa.table({**columns, _VALUE: pa.array(texts, pa.large_string())})

    def _text(self, key: Key) -> str:
        try:
            return json.dumps(self._encode(self._values[key]))
        except (TypeError, ValueError) as error:
            raise UnsupportedState(
                f"the state of {self._step} for the key {key!r:.80} is not JSON: {error}. "
                "Keep numbers, text, lists and dictionaries in it."
            ) from error

    def restore(self, tables: Iterable[pa.Table]) -> None:
        """Take back what snapshots gave, in their order."""
        for table in tables:
            names = [name for name in table.schema.names if name.startswith("key")]
            keys = zip(*(values_of(table.column(name)) for name in names), strict=True)
            groups = values_of(table.column(GROUP))
            texts = table.column(_VALUE).to_pylist()
            for key, group, text in zip(keys, groups, texts, strict=True):
                if text is None:
                    self._values.pop(key, None)
                    self._groups.pop(key, None)
                else:
                    self._values[key] = self._decode(json.loads(text))
                    self._groups[key] = group


def keys_of(batch: Batch, names: tuple[str, ...]) -> Iterator[Key]:
    """The key of each event."""
    if batch.in_rows:
        if len(names) == 1:
            [name] = names
            return ((row[name],) for row in batch.rows)
        return (tuple(row[name] for name in names) for row in batch.rows)
    return zip(*(values_of(batch.column(name)) for name in names), strict=True)
