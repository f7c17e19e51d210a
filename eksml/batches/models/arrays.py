"""Arrow to numpy and back, for functions that compute on batches of numpy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def to_numpy(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    """A column as an array of its length; read-only and without a copy where that can be.

    ===============================  ==================================================
    Arrow                            numpy
    ===============================  ==================================================
    numbers, bools, dates            the same type; numbers with nulls: float, NaN;
                                     bools with nulls: object, None
    text, bytes, structs             object: str, bytes, dict; None for null
    fixed-size lists of numbers      (rows, …), one axis for each level; object if there
                                     are nulls
    tensors (``fixed_shape_tensor``) (rows, …)
    other lists                      object: an array a row; None for null
    dictionaries                     as the values that they stand for
    ===============================  ==================================================
    """
    import pyarrow as pa

    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # several chunks too large for one
        array = pa.concat_arrays(array.chunks)
    return _to_numpy(array)


def _to_numpy(array: pa.Array) -> np.ndarray[Any, Any]:
    import pyarrow as pa

    kind = array.type
    if isinstance(array, pa.FixedShapeTensorArray) and not array.null_count:
        return array.to_numpy_ndarray()  # type: ignore[no-any-return]
    if isinstance(kind, pa.BaseExtensionType):
        return _to_numpy(array.storage)
    if pa.types.is_dictionary(kind):
        return _to_numpy(array.dictionary_decode())
    if pa.types.is_fixed_size_list(kind):
        tensor = _tensor(array)
        if tensor is not None:
            return tensor
    return array.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _tensor(array: pa.Array) -> np.ndarray[Any, Any] | None:
    """Fixed-size lists of numbers, however deep, as one array; None if they hold nulls."""
    import pyarrow as pa

    shape = [len(array)]
    while pa.types.is_fixed_size_list(array.type):
        if array.null_count:
            return None
        shape.append(array.type.list_size)
        array = array.flatten()
    kind = array.type
    if array.null_count or not (pa.types.is_primitive(kind) or pa.types.is_boolean(kind)):
        return None
    return array.to_numpy(zero_copy_only=False).reshape(shape)  # type: ignore[no-any-return]


def to_arrow(values: Any) -> pa.Array:
    """One column of a result as Arrow; what :func:`to_numpy` gives comes back as it was.

    The values are copied: functions may use their arrays again for the next batch.

    Arrays with more than one axis become nested fixed-size lists, which Parquet, pandas and every
    other reader understand, unlike extension types. Lists take the type that their values have.

    Args:
        values: A numpy array, a torch tensor (of any device), a list, a pandas series or Arrow.

    Raises:
        TypeError, ValueError: It is none of these, or its values have no common type.
    """
    import numpy as np
    import pyarrow as pa

    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if hasattr(values, "detach"):
        values = _of_torch(values)
    if isinstance(values, np.ndarray):
        return _of_numpy(values)
    if isinstance(values, list | tuple) or hasattr(values, "to_numpy"):
        return _of_values(list(values))
    raise TypeError(f"a {type(values).__name__} is no array or list.")


def _of_torch(tensor: Any) -> np.ndarray[Any, Any]:
    import torch

    if tensor.dtype == torch.bfloat16:  # numpy has none
        tensor = tensor.to(torch.float32)
    return tensor.detach().cpu().numpy()  # type: ignore[no-any-return]


def _of_numpy(array: np.ndarray[Any, Any]) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    if array.ndim == 0:
        raise ValueError("a single value is no array with one entry a row.")
    if array.dtype == object:
        return _of_values(list(array))
    if array.ndim == 1:
        return pa.array(array.copy())
    if 0 in array.shape[1:]:
        return pa.array(array.tolist())
    result = pa.array(np.array(array, order="C").reshape(-1))
    for size in reversed(array.shape[1:]):
        result = pa.FixedSizeListArray.from_arrays(result, size)
    return result


def _of_values(values: list[Any]) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    plain = [_of_torch(value) if hasattr(value, "detach") else value for value in values]
    plain = [
        value.tolist() if isinstance(value, np.ndarray) and value.ndim != 1 else value
        for value in plain
    ]
    return pa.array(plain)
