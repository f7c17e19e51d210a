"""Key groups: what state is moved by when the number of workers changes.

A key's group depends on its value alone: integers, booleans and times through SplitMix64, text
and bytes through CRC-32 first, floats by their bits. So it is the same in every process, version
and machine, for as long as a stream's state lives. Groups lie on workers in contiguous ranges.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eksml.errors import CallError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

NUM_GROUPS = 128
"""Groups of every stream, and so the most workers that may share its keys."""


def owner(group: int, workers: int) -> int:
    """The worker that has ``group``."""
    return group * workers // NUM_GROUPS


def owned(index: int, workers: int) -> range:
    """The groups of worker ``index``."""
    first = -(-index * NUM_GROUPS // workers)
    return range(first, -(-(index + 1) * NUM_GROUPS // workers))


def groups_of(columns: Sequence[pa.Array]) -> np.ndarray:
    """The group of each row by its key columns: uint8.

    Raises:
        CallError: Keys of this type cannot be hashed.
    """
    import numpy as np

    mixed = _mix(_numbers(columns[0]))
    for column in columns[1:]:
        mixed = _mix(mixed * np.uint64(31) + _numbers(column))
    # The remainder, as NUM_GROUPS is a power of two
    return (mixed & np.uint64(NUM_GROUPS - 1)).astype(np.uint8)


def _numbers(column: pa.Array) -> np.ndarray:
    """A 64-bit number per row, equal for equal values."""
    import numpy as np
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        numbers: np.ndarray = _numbers(column.dictionary)[column.indices.to_numpy()]
        return numbers
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        numbers = column.cast(pa.int64(), safe=False).to_numpy(zero_copy_only=False)
        return numbers.view(np.uint64)
    if pa.types.is_temporal(kind):
        return _times(column)
    if pa.types.is_floating(kind):
        floats: np.ndarray = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return (floats + 0.0).view(np.uint64)  # -0.0 equals 0.0
    if any(test(kind) for test in _texts()):
        return _checksums(column)
    raise CallError(f"keys of type {kind} cannot be hashed. Use numbers, text, bytes or times.")


def _times(column: pa.Array) -> np.ndarray:
    import numpy as np
    import pyarrow as pa

    width = pa.int32() if column.type.bit_width == 32 else pa.int64()
    whole: np.ndarray = column.cast(width).cast(pa.int64()).to_numpy(zero_copy_only=False)
    return whole.view(np.uint64)


def _texts() -> tuple[Any, ...]:
    from pyarrow import types

    return (
        *(types.is_string, types.is_large_string, types.is_string_view),
        *(types.is_binary, types.is_large_binary, types.is_fixed_size_binary),
    )


def _checksums(column: pa.Array) -> np.ndarray:
    """CRC-32, of each different value once."""
    import numpy as np
    import pyarrow as pa

    encoded = column.dictionary_encode()
    values = encoded.dictionary.cast(pa.large_binary()).to_pylist()
    sums = np.fromiter((zlib.crc32(value) for value in values), np.uint64, len(values))
    numbers: np.ndarray = sums[encoded.indices.to_numpy()]
    return numbers


def _mix(numbers: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014): every bit depends on every other."""
    import numpy as np

    with np.errstate(over="ignore"):
        mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
