"""State by key as Python values, and its way to disk and into checkpoints: JSON, never pickle."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from eksml.errors import UnsupportedState
from eksml.streams.batch import Batch, Event, array
from eksml.streams.operators.aggregates import GROUP
from eksml.streams.operators.cold import ColdKeys, Row
from eksml.streams.operators.key_text import Key
from eksml.streams.operators.room import Held, Room, weight

if TYPE_CHECKING:
    import pyarrow as pa

_VALUE = "__value"
_AT_ONCE = 10_000
"""Keys that go to the disk, or come from a checkpoint, in one go."""


class KeyedState:
    """A value for each key; what changed since the last snapshot is known.

    ``encode`` and ``decode`` turn a value into JSON values and back. Where there is no room for all
    keys in ``memory`` bytes, :meth:`settle` moves those to the disk that have not changed for
    longest; :meth:`bring` has them back before they are asked for, and :meth:`bring_due` when event
    time has come to the moment that ``due`` gives for a key and its value.
    """

    def __init__(
        self,
        step: str,
        encode: Callable[[Any], Any] = lambda value: value,
        decode: Callable[[Any], Any] = lambda value: value,
        due: Callable[[Key, Any], int | None] = lambda key, value: None,
        memory: int | None = None,
    ) -> None:
        self._step = step
        self._encode = encode
        self._decode = decode
        self._due = due
        self._values: dict[Key, Any] = {}
        self._groups: dict[Key, int] = {}
        self._changed: dict[Key, int] = {}
        self._room = Room(memory, lambda key: weight(self._values.get(key)) + weight(key))
        self._cold: ColdKeys | None = None

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
        """What is in memory."""
        return self._values.items()

    def group(self, key: Key) -> int:
        return self._groups[key]

    def __contains__(self, key: Key) -> bool:
        """Whether the key has a value, and that is in memory."""
        return key in self._values

    def __len__(self) -> int:
        return len(self._values) + (self._cold.num_keys if self._cold else 0)

    def bring(self, keys: Iterable[Key]) -> list[Key]:
        """Have these keys in memory, if they have a value; those that were not."""
        if self._cold is None:
            return []
        away = [key for key in dict.fromkeys(keys) if key not in self._values]
        return self._take(self._cold.take(away))

    def groups_due(self, moment: int) -> list[int]:
        """Groups with keys on the disk that may be due at ``moment``."""
        return self._cold.groups_due(moment) if self._cold else []

    def bring_due(self, group: int, moment: int) -> list[Key]:
        """Have those keys of a group in memory that are due at ``moment``; those that were not."""
        assert self._cold is not None
        return self._take(self._cold.take_due(group, moment))

    def _take(self, rows: Sequence[Row]) -> list[Key]:
        for row in rows:
            self._values[row.key] = self._decode(json.loads(row.value))
            self._groups[row.key] = row.group
            if row.fresh:
                self._changed[row.key] = row.group
        return [row.key for row in rows]

    def settle(self, keys: Sequence[Key]) -> bool:
        """After events with these keys: move to the disk what has no room; whether some had none.

        Raises:
            UnsupportedState: A value is no JSON; names the step and the key.
            StorageUnavailable: The disk is full.
        """
        num_gone = self._room.too_many(len(self._values), keys)
        if num_gone:
            resting = [key for key in self._values if key not in self._changed]
            if len(resting) < num_gone:
                resting += (key for key in self._values if key in self._changed)
            self.evict(resting[:num_gone])
        return num_gone > 0

    def evict(self, keys: Sequence[Key]) -> None:
        """Move these keys to the disk. Raises as :meth:`settle` does."""
        if self._cold is None:
            self._cold = ColdKeys()
        values, groups = self._values, self._groups
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            self._cold.put(
                Row(k, groups[k], self._text(k), self._due(k, values[k]), k in self._changed)
                for k in part
            )
            for key in part:
                del values[key], groups[key]
                self._changed.pop(key, None)

    def held(self) -> Held:
        """Bytes that it takes."""
        in_memory = len(self._values) * self._room.mean
        return Held(in_memory, self._cold.num_bytes if self._cold else 0)

    def snapshot(self, full: bool) -> Iterable[pa.Table]:
        """A row for each key that changed, or has a value at all; a null value means deleted.

        Raises:
            UnsupportedState: A value is no JSON; names the step and the key.
        """
        import pyarrow as pa

        rows = self._groups if full else self._changed
        self._changed = {}
        texts = [self._text(key) if key in self._values else None for key in rows]
        groups = pa.array(list(rows.values()), pa.uint8())
        hot = [_table(list(rows), groups, pa.array(texts, pa.large_string()))] if rows else []
        if self._cold is None:
            return hot
        cold = (_table(*part) for part in self._cold.frozen(full))
        return itertools.chain(cold, hot)

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
            for start in range(0, table.num_rows, _AT_ONCE):
                self._restore(table.slice(start, _AT_ONCE))

    def _restore(self, table: pa.Table) -> None:
        names = [name for name in table.schema.names if name.startswith("key")]
        keys = list(zip(*(table.column(name).to_pylist() for name in names), strict=True))
        if self._cold is not None:
            self._cold.drop(key for key in keys if key not in self._values)
        groups = table.column(GROUP).to_pylist()
        texts = table.column(_VALUE).to_pylist()
        for key, group, text in zip(keys, groups, texts, strict=True):
            if text is None:
                self._values.pop(key, None)
                self._groups.pop(key, None)
            else:
                self._values[key] = self._decode(json.loads(text))
                self._groups[key] = group
        self.settle(keys)


def _table(keys: Sequence[Key], groups: Any, texts: Any) -> pa.Table:
    """Of keys with as long Arrow arrays of their groups and values."""
    import pyarrow as pa

    columns = {GROUP: groups}
    for position in range(len(keys[0])):  # not by zip, for which each key is an argument
        values = [key[position] for key in keys]
        columns[f"key{position}"] = array(values, f"key{position}")
    return pa.table({**columns, _VALUE: texts})


def keys_of(batch: Batch, names: tuple[str, ...]) -> Iterator[Key]:
    """The key of each event."""
    if batch.in_rows:
        if len(names) == 1:
            [name] = names
            return ((row[name],) for row in batch.rows)
        return (tuple(row[name] for name in names) for row in batch.rows)
    return zip(*(batch.column(name).to_pylist() for name in names), strict=True)
