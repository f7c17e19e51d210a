"""The events of a micro-batch by key, in arrays: their numbers and running values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa


class Grouped:
    """The events of a batch by key: running values within the batch, on top of older ones."""

    def __init__(self, codes: np.ndarray, slots: np.ndarray) -> None:
        import numpy as np

        self.codes = codes
        self.slots = slots
        self.sizes = np.bincount(codes, minlength=len(slots))
        """How many events each key has."""
        few = len(slots) <= np.iinfo(np.uint16).max
        # numpy sorts 16 bits by radix, in a tenth of the time
        self._order = np.argsort(codes.astype(np.uint16) if few else codes, kind="stable")
        ends = np.cumsum(self.sizes)
        self._begins = ends - self.sizes
        self.last = self._order[ends - 1]
        """The last event of each key."""

    def counts(self, before: np.ndarray) -> np.ndarray:
        """The number of each event among its key's, of which there were ``before`` already."""
        import numpy as np

        counts = np.empty(len(self.codes), np.int64)
        places = np.arange(1, len(self.codes) + 1)
        counts[self._order] = places + np.repeat(before - self._begins, self.sizes)
        return counts

    def running(
        self, function: str, values: np.ndarray, old: np.ndarray, known: np.ndarray
    ) -> np.ndarray:
        """The aggregate after each event; ``old`` is each key's before the batch, where ``known``,
        and 0 elsewhere."""
        import numpy as np

        if function in ("sum", "mean"):
            return self._sums(values, old)
        if function == "last":
            return values
        if function == "first":
            first = np.where(known, old, values[self._order[self._begins]])
            firsts: np.ndarray = first[self.codes]
            return firsts
        by = self._by(values)
        least = function == "min"
        inside = (by.cummin() if least else by.cummax()).to_numpy()
        combined = (np.minimum if least else np.maximum)(inside, old[self.codes])
        return np.where(known[self.codes], combined, inside)

    def _sums(self, values: np.ndarray, old: np.ndarray) -> np.ndarray:
        """Running sums by key."""
        import numpy as np

        # Differences of long sums of floats are not exact
        if values.dtype != np.int64 or old.dtype != np.int64:
            floats: np.ndarray = self._by(values).cumsum().to_numpy() + old[self.codes]
            return floats
        ordered = values[self._order]
        running = np.cumsum(ordered)
        before = running[self._begins] - ordered[self._begins]
        sums = np.empty(len(values), np.int64)
        sums[self._order] = running + np.repeat(old - before, self.sizes)
        return sums

    def _by(self, values: np.ndarray) -> pd.api.typing.SeriesGroupBy[Any, Any]:
        import pandas as pd

        return pd.Series(values).groupby(self.codes, sort=False)


def encode(columns: list[pa.Array]) -> tuple[np.ndarray, list[Any]]:
    """A small number for each row's key, and the keys by that number."""
    import numpy as np

    if len(columns) == 1:
        encoded = _plain(columns[0]).dictionary_encode()
        return encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    parts = [encode([column]) for column in columns]
    mixed, keys = parts[0][0].astype(np.int64), [(key,) for key in parts[0][1]]
    for codes, values in parts[1:]:
        pairs, mixed = np.unique(mixed * len(values) + codes, return_inverse=True)
        keys = [(*keys[pair // len(values)], values[pair % len(values)]) for pair in pairs.tolist()]
    return mixed, keys


def _plain(column: pa.Array) -> pa.Array:
    """Without a dictionary of its own, which may have values that no row has."""
    import pyarrow as pa

    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
