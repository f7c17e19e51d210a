"""State by key in arrays, one for each number that is kept: for whole micro-batches."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from eksml.streams.batch import array
from eksml.streams.operators.aggregates import GROUP
from eksml.streams.operators.cold import ColdKeys, Part, Row
from eksml.streams.operators.key_text import Key
from eksml.streams.operators.room import Held, Room, weight

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_FIRST_ROOM = 1024
_AT_ONCE = 10_000
"""Keys that go to the disk, or come from a checkpoint, in one go."""


class Slots:
    """For each key a slot, and in it the count of its events and a number of each name.

    A key is a bare value where there is one key column, else a tuple. Where there is no room for
    all keys in ``memory`` bytes, :meth:`settle` moves those to the disk that have not changed for
    longest; :meth:`place` has them back.
    """

    def __init__(self, names: Sequence[str], num_key_columns: int, memory: int | None) -> None:
        self._has_tuples = num_key_columns > 1
        self._num_key_columns = num_key_columns
        self._slots: dict[Any, int] = {}
        self._keys: list[Any] = []
        self._groups = Column()
        self._changed = Column()
        self.count = Column()
        self.columns = {name: Column() for name in names}
        row_bytes = 8 * (3 + len(names))
        self._room = Room(memory, lambda key: row_bytes + weight(key))
        self._cold: ColdKeys | None = None

    def __len__(self) -> int:
        return len(self._keys) + (self._cold.num_keys if self._cold else 0)

    def place(self, keys: Sequence[Any], codes: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """The slot of each of these keys, which events have by ``codes`` and whose groups they
        know; new ones hold zeros."""
        import numpy as np

        if self._cold is not None:
            self._bring(self._cold, [key for key in keys if key not in self._slots])
        before = len(self._keys)
        found = self._slots
        known: list[Any] = list(map(found.get, keys))
        if None in known:
            for index, key in enumerate(keys):
                if known[index] is None:
                    known[index] = found[key] = len(found)
                    self._keys.append(key)
        slots = np.array(known, np.int64)
        if len(self._keys) > before:
            of_keys = np.empty(len(keys), np.uint8)
            of_keys[codes] = groups
            self._grow(len(self._keys))
            self._groups.put(slots, of_keys)
        return slots

    def changed(self, slots: np.ndarray) -> None:
        """What these slots hold has changed."""
        self._changed.put(slots, True)

    def _bring(self, cold: ColdKeys, keys: list[Any]) -> None:
        """Have those of the keys in memory that lie on the disk."""
        rows = cold.take([self._whole(key) for key in keys])
        if not rows:
            return
        slots = self._slots_of([row.key if self._has_tuples else row.key[0] for row in rows])
        values = zip(*(json.loads(row.value) for row in rows), strict=True)
        self._fill(slots, [row.group for row in rows], *values)
        self._changed.put(slots, [row.fresh for row in rows])

    def _whole(self, key: Any) -> Key:
        return key if self._has_tuples else (key,)

    def _slots_of(self, keys: Sequence[Any]) -> np.ndarray:
        """The slots of keys; new ones where they have none."""
        import numpy as np

        for key in keys:
            if key not in self._slots:
                self._slots[key] = len(self._slots)
                self._keys.append(key)
        self._grow(len(self._keys))
        return np.fromiter((self._slots[key] for key in keys), np.int64, len(keys))

    def _fill(self, slots: np.ndarray, groups: Any, count: Any, *values: Any) -> None:
        """Set what is kept in these slots."""
        import numpy as np

        self._groups.put(slots, groups)
        self.count.put(slots, count)
        for column, given in zip(self.columns.values(), values, strict=True):
            numbers = np.asarray(given)
            column.of_type(numbers.dtype)
            column.put(slots, numbers)

    def settle(self, keys: Sequence[Any]) -> None:
        """After events with these keys: move to the disk what has no room.

        Raises:
            StorageUnavailable: The disk is full.
        """
        import numpy as np

        num_gone = self._room.too_many(len(self._keys), keys)
        if not num_gone:
            return
        changed = self._changed.values[: len(self._keys)].astype(np.bool_)
        order = np.argsort(changed, kind="stable")  # those that rest come first
        for start in range(0, num_gone, _AT_ONCE):
            self._put_away(order[start : min(num_gone, start + _AT_ONCE)])
        stay = np.sort(order[num_gone:])
        self._keys = self._keys_at(stay)
        self._slots = {key: slot for slot, key in enumerate(self._keys)}
        for column in self._all_columns:
            column.values = column.values[stay]

    def _put_away(self, slots: np.ndarray) -> None:
        if self._cold is None:
            self._cold = ColdKeys()
        groups = self._groups.at(slots).tolist()
        changed = self._changed.at(slots).tolist()
        lists = [each.at(slots).tolist() for each in (self.count, *self.columns.values())]
        values = map(json.dumps, zip(*lists, strict=True))
        keys = map(self._whole, self._keys_at(slots))
        rows = zip(keys, groups, values, changed, strict=True)
        self._cold.put(Row(key, group, text, None, bool(new)) for key, group, text, new in rows)

    @property
    def _all_columns(self) -> list[Column]:
        return [self._groups, self.count, self._changed, *self.columns.values()]

    def _grow(self, size: int) -> None:
        for column in self._all_columns:
            column.grow(size)

    def snapshot(self, full: bool) -> Iterable[pa.Table]:
        """A row for each key that changed, or for all."""
        import numpy as np

        size = len(self._keys)
        changed = self._changed.values[:size].astype(np.bool_)
        self._changed.values[:] = 0
        slots = np.arange(size) if full else np.flatnonzero(changed)
        hot = [self._hot(slots)] if len(slots) else []
        if self._cold is None:
            return hot
        return itertools.chain(map(self._table_of, self._cold.frozen(full)), hot)

    def _hot(self, slots: np.ndarray) -> pa.Table:
        keys = self._keys if len(slots) == len(self._keys) else self._keys_at(slots)
        parts = self._parts(keys) if self._has_tuples else [keys]
        lists = [each.at(slots) for each in (self.count, *self.columns.values())]
        return self._table(parts, self._groups.at(slots), lists)

    def _keys_at(self, slots: np.ndarray) -> list[Any]:
        return [self._keys[slot] for slot in slots.tolist()]

    def _table_of(self, part: Part) -> pa.Table:
        rows = [json.loads(text) for text in part.values.to_pylist()]
        values = [[row[place] for row in rows] for place in range(len(rows[0]))]
        return self._table(self._parts(part.keys), part.groups.to_numpy(), values)

    def _parts(self, keys: Sequence[Key]) -> list[list[Any]]:
        """The key columns: not by zip, for which each of the many keys is an argument."""
        return [[key[position] for key in keys] for position in range(self._num_key_columns)]

    def _table(
        self, parts: Sequence[Sequence[Any]], groups: Any, values: Sequence[Any]
    ) -> pa.Table:
        """Of keys by their parts; ``values`` are the counts, and the values of each aggregate."""
        import numpy as np
        import pyarrow as pa

        columns = {GROUP: pa.array(np.asarray(groups, np.uint8))}
        for position, part in enumerate(parts):
            columns[f"key{position}"] = array(part, f"key{position}")
        names = ("count", *(f"value {name}" for name in self.columns))
        for name, given in zip(names, values, strict=True):
            columns[name] = pa.array(np.asarray(given))
        return pa.table(columns)

    def restore(self, tables: Iterable[pa.Table]) -> None:
        """Take back what snapshots gave, in their order."""
        for table in tables:
            for start in range(0, table.num_rows, _AT_ONCE):
                self._restore(table.slice(start, _AT_ONCE))

    def _restore(self, table: pa.Table) -> None:
        names = [f"key{position}" for position in range(self._num_key_columns)]
        lists = [table.column(name).to_pylist() for name in names]
        keys = list(zip(*lists, strict=True)) if self._has_tuples else lists[0]
        if self._cold is not None:
            self._cold.drop(self._whole(key) for key in keys if key not in self._slots)
        columns = [GROUP, "count", *(f"value {name}" for name in self.columns)]
        self._fill(self._slots_of(keys), *(table.column(name).to_numpy() for name in columns))
        self.settle(keys)

    def held(self) -> Held:
        """Bytes that it takes."""
        in_memory = len(self._keys) * self._room.mean
        return Held(in_memory, self._cold.num_bytes if self._cold else 0)


class Column:
    """An array that grows, and takes a wider type when it has to."""

    def __init__(self) -> None:
        import numpy as np

        self.values = np.zeros(_FIRST_ROOM, np.int64)

    def grow(self, size: int) -> None:
        import numpy as np

        if size > len(self.values):
            room = np.zeros(max(size, 2 * len(self.values)), self.values.dtype)
            room[: len(self.values)] = self.values
            self.values = room

    def of_type(self, dtype: np.dtype[Any]) -> None:
        import numpy as np

        wider = np.promote_types(self.values.dtype, dtype)
        if wider != self.values.dtype:
            self.values = self.values.astype(wider)

    def at(self, slots: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.values[slots]
        return found

    def put(self, slots: np.ndarray, values: Any) -> None:
        self.values[slots] = values
