"""How much memory a model's weights take, from the headers of its safetensors files.

A file begins with the length of its header, 8 bytes little endian, and the header, JSON: for each
tensor its dtype, shape and place (huggingface.co/docs/safetensors). Only that much is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from eksml.errors import Damaged, NotFound, StorageUnavailable
from eksml.llm.model_folder import Files
from eksml.storage import URI, arrow_filesystem

_LENGTH = 8
_LONGEST = 100 * 2**20
"""Of a header, by the format's own rule."""
_AT_ONCE = 8
_CONVERTED = ("F64", "F32", "F16", "BF16")
"""What vLLM turns into the dtype it computes in; quantized weights stay as they are."""
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U64": 8, "I32": 4, "U32": 4}
_SIZES |= {"I16": 2, "U16": 2}


def weight_bytes(source: str, files: Files, dtype_bytes: int) -> int:
    """Bytes of all weights once they are loaded.

    Args:
        source: The model's folder, here or in S3.
        files: What lies in it.
        dtype_bytes: Of a number in the dtype that is computed in.

    Raises:
        Damaged: A file is no safetensors file.
        NotFound, StorageUnavailable: A file cannot be read.
    """
    names = [name for name in files if name.endswith(".safetensors") and "/" not in name]
    place = URI.parse(source)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        headers = list(pool.map(lambda name: _header(place / name), names))
    return sum(_loaded(tensor, dtype_bytes) for header in headers for tensor in _tensors(header))


def _tensors(header: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from (tensor for name, tensor in header.items() if name != "__metadata__")


def _loaded(tensor: Mapping[str, Any], dtype_bytes: int) -> int:
    stored = tensor["dtype"]
    size = dtype_bytes if stored in _CONVERTED else _SIZES.get(stored, 1)
    return int(math.prod(tensor["shape"])) * size


def _header(file: URI) -> Mapping[str, Any]:
    path, filesystem = arrow_filesystem(file)
    try:
        with filesystem.open_input_file(path) as opened:
            length = int.from_bytes(opened.read(_LENGTH), "little")
            if not 0 < length <= _LONGEST:
                raise Damaged(f"{file} is no safetensors file. Copy it again.")
            found = json.loads(opened.read(length))
    except FileNotFoundError as error:
        raise NotFound(f"{file} is gone since the folder was listed.") from error
    except OSError as error:
        raise StorageUnavailable(f"{file} could not be read: {error}.") from error
    except ValueError as error:
        raise Damaged(f"{file} has no header that can be read. Copy it again.") from error
    if not isinstance(found, Mapping):
        raise Damaged(f"{file} has no header that can be read. Copy it again.")
    return found
